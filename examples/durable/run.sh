#!/bin/sh
# Starts a server and a run, kills the server while the run waits, starts it again, and watches the run finish.
# Usage: run.sh [path to the loom binary]
set -eu
loom=${1:-loom}
here=$(cd "$(dirname "$0")" && pwd)
data=$(mktemp -d)
server=
trap 'kill "$server" 2>/dev/null || true; rm -rf "$data"' EXIT

start() {
    # Do not read the output of the previous server.
    : >"$data/out"
    "$loom" serve "$here/order.json" --data "$data/store" --addr 127.0.0.1:0 >"$data/out" &
    server=$!
    # The server prints its address as soon as it listens.
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        base=$(sed -n 's/^listening on //p' "$data/out")
        [ -n "$base" ] && return
        sleep 0.5
    done
    echo "the server did not start" >&2
    exit 1
}

start
run=$(curl -sS -D - -o /dev/null -H 'Content-Type: application/json' -d '{"id": 7}' \
    "$base/workflows/order/triggers/manual/invoke" | tr -d '\r' | sed -n 's/^x-ms-workflow-run-id: //p')
echo "started run $run; killing the server"
kill -9 "$server"
wait "$server" 2>/dev/null || true
start
echo "the server is back"
"$loom" runs watch "$run" --server "$base"
kill "$server"
wait "$server"
