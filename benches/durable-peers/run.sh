#!/usr/bin/env bash
# Loom beside Restate and DBOS: ten durable steps in a row that do nothing, on this machine, one after the other.
# Needs Rust, npm and python3; downloads the peers by cargo, npm and pip into the target directory. SECONDS_EACH, CALLERS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/durable-peers
seconds=${SECONDS_EACH:-5}
read -r -a callers <<< "${CALLERS:-1 64}"
mkdir -p "$work"

cargo build --quiet --release --manifest-path "$root/Cargo.toml" --package loom-workflow
cargo build --quiet --release --manifest-path "$here/restate/Cargo.toml" --target-dir "$work/restate-target"
[ -x "$work/node_modules/.bin/restate-server" ] ||
    npm install --silent --no-fund --no-audit --prefix "$work" @restatedev/restate-server@1.7.12 @restatedev/restate@1.7.12
[ -x "$work/python/bin/python" ] || python3 -m venv "$work/python"
"$work/python/bin/pip" install --quiet --disable-pip-version-check dbos==3.4.0

echo "load average before: $(cut -d' ' -f1-3 /proc/loadavg)"
"${CARGO_TARGET_DIR:-$root/target}/release/loom" bench --shape steps --seconds "$seconds" --callers "$(IFS=,; echo "${callers[*]}")"

data=$(mktemp -d "$work/data.XXXXXX")
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$data"; }
trap finish EXIT
cd "$data"
"$work/restate-target/release/durable-peers-restate" 127.0.0.1:9090 > service.log 2>&1 &
pids+=($!)
"$work/node_modules/.bin/restate-server" --base-dir "$data/restate" > restate.log 2>&1 &
pids+=($!)
ready() { for _ in $(seq 200); do curl -sf "$1" > /dev/null 2>&1 && return; sleep 0.1; done; cat restate.log >&2; exit 1; }
ready http://127.0.0.1:9070/health
ready http://127.0.0.1:8080/restate/health
curl -sf -X POST http://127.0.0.1:9070/deployments -H 'content-type: application/json' \
    -d '{"uri": "http://127.0.0.1:9090"}' > /dev/null
for count in "${callers[@]}"; do
    "$work/restate-target/release/callers" 127.0.0.1:8080 /Bench/steps "$count" "$seconds"
done
finish
pids=()
mkdir -p "$data"
cd "$data"
"$work/python/bin/python" "$here/dbos_steps.py" "$seconds" "${callers[@]}"
