#!/bin/sh
# An honest client beside hostile ones (tests/hostiletool.c). LONG=1: with ten
# thousand connections, and longer.
. "$(dirname "$0")/lib.sh"
if [ -n "${LONG:-}" ]; then
	conns=10000 seconds=10
else
	conns=200 seconds=0.6
fi

set -- $(ports 2)
start n --data-dir "$dir/n" --snapshot-count 1000 \
	--listen-client-urls "http://127.0.0.1:$1" --advertise-client-urls "http://127.0.0.1:$1" \
	--listen-peer-urls "http://127.0.0.1:$2" --initial-advertise-peer-urls "http://127.0.0.1:$2" \
	--initial-cluster "n=http://127.0.0.1:$2"
wait_for 20 healthy "http://127.0.0.1:$1"
"$top/$BUILD/tests/hostiletool" "$(cat "$dir/n.pid")" "$1" $conns $seconds ${ATTACK:+"$ATTACK"} || failed=1
wait_for 5 healthy "http://127.0.0.1:$1"
stop n
[ $status -eq 143 ] || { echo "the server did not end well: $status"; failed=1; }
finish
