#!/bin/sh
# A distributed lock, fair: each waiter puts an in-order key with a TTL and
# waits for the key before its own to go. The TTL frees the lock of a holder
# that died; it is refreshed while the command runs.
#
#   lock.sh NAME COMMAND...      run COMMAND while holding the lock
URL=${ETCD_URL:-http://127.0.0.1:2379}
TTL=${TTL:-15}
[ $# -ge 2 ] || { sed -n 's/^#   /usage: /p' "$0" >&2; exit 2; }
queue=$URL/v2/keys/locks/$1
shift

mine=$(curl -fsS -X POST "$queue" -d value=$$ -d "ttl=$TTL" | sed -n 's/.*"node":{"key":"\([^"]*\)".*/\1/p')
[ -n "$mine" ] || exit 1
(while sleep $((TTL / 3)); do
	curl -fs -X PUT "$URL/v2/keys$mine" -d refresh=true -d prevExist=true -d "ttl=$TTL" >/dev/null || exit
done) &
keeper=$!
release() {
	kill $keeper 2>/dev/null
	curl -s -X DELETE "$URL/v2/keys$mine" >/dev/null
}
trap 'release' EXIT
trap 'exit 130' INT TERM

while :; do
	answer=$(curl -fs -i "$queue?sorted=true&quorum=true")
	index=$(printf %s "$answer" | tr -d '\r' | sed -n 's/^X-Etcd-Index: //p')
	before=$(printf %s "$answer" | grep -o '"key":"/locks/[^"/]*/[^"]*"' | cut -d'"' -f4 | awk -v m="$mine" '$0 < m' | tail -n 1)
	[ -n "$before" ] || break
	curl -fs -m $((TTL * 2)) "$URL/v2/keys$before?wait=true&waitIndex=$((index + 1))" >/dev/null
done
"$@"
