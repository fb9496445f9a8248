#!/bin/sh
# Starts PostgreSQL and three nodes, sends orders to all of them, kills one node, and shows that every order is finished.
# Usage: run.sh [path to the loom binary]. Everything is in a temporary directory, which is removed at the end.
set -eu
loom=${1:-loom}
orders=${ORDERS:-60}
here=$(cd "$(dirname "$0")" && pwd)
bin=${LOOM_POSTGRES_BIN:-$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)}
if [ ! -x "$bin/initdb" ]; then
    echo "this example needs the programs of a PostgreSQL server: install Debian's package \`postgresql\`, or set LOOM_POSTGRES_BIN to the directory that contains \`initdb\`" >&2
    exit 2
fi
work=$(mktemp -d)
nodes=
database() { "$@"; }
# The server refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work"
    database() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
fi
finish() {
    for node in $nodes; do kill -9 "$node" 2>/dev/null || true; done
    database "$bin/pg_ctl" -D "$work/db" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

database "$bin/initdb" --no-sync -U loom -A trust -E UTF8 --locale=C.UTF-8 -D "$work/db" >"$work/initdb.log"
database "$bin/pg_ctl" -D "$work/db" -o "-c listen_addresses='' -c unix_socket_directories='$work'" -w start >"$work/pg.log"
store="postgres://loom@$(echo "$work" | sed 's|/|%2F|g')/postgres"

# Starts a node; `address_NAME` and `pid_NAME` are its address and its process.
node() {
    : >"$work/$1.out"
    "$loom" serve --store "$store" --node-name "$1" --addr 127.0.0.1:0 >"$work/$1.out" 2>"$work/$1.log" &
    eval "pid_$1=$!"
    nodes="$nodes $!"
    for _ in $(seq 120); do
        address=$(sed -n 's/^listening on //p' "$work/$1.out")
        if [ -n "$address" ]; then
            eval "address_$1=$address"
            return
        fi
        sleep 0.5
    done
    echo "node $1 did not start" >&2
    cat "$work/$1.log" >&2
    exit 1
}

node one
node two
node three
"$loom" deploy "$here/order.json" --server "$address_one"
for _ in $(seq 60); do
    shared=$("$loom" nodes list --server "$address_one" | awk 'NR > 1 && $4 > 0' | wc -l)
    [ "$shared" = 3 ] && break
    sleep 0.5
done
"$loom" nodes list --server "$address_one"

number=0
while [ "$number" -lt "$orders" ]; do
    case $((number % 3)) in 0) at=$address_one ;; 1) at=$address_two ;; 2) at=$address_three ;; esac
    # A node may not know the definition yet for a moment, so the request is repeated, under its key.
    curl -sS -f -o /dev/null --retry 20 --retry-delay 1 --retry-all-errors -H 'Content-Type: application/json' \
        -H "Idempotency-Key: order-$number" -d "{\"id\": $number}" "$at/workflows/order/triggers/manual/invoke"
    number=$((number + 1))
done
echo "$orders orders were accepted, by three nodes"
kill -9 "$pid_two"
killed=$(date +%s)
echo "node two was killed"
for _ in $(seq 240); do
    done=$("$loom" runs list --server "$address_one" --status Succeeded --limit 1000 --quiet 2>/dev/null | wc -l)
    [ "$done" = "$orders" ] && break
    sleep 0.5
done
"$loom" nodes list --server "$address_one"
if [ "$done" != "$orders" ]; then
    echo "only $done of $orders orders were finished" >&2
    exit 1
fi
echo "all $orders orders were finished, $(($(date +%s) - killed)) seconds after the kill"
