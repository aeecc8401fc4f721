#!/bin/sh
# Load balancing: pick a backend of a service (see service-discovery.sh), each
# in turn. The turn is an in-order key, so that all callers share one rotation.
#
#   load-balancing.sh SERVICE      print "NAME ADDRESS" of the backend to use
URL=${ETCD_URL:-http://127.0.0.1:2379}
[ $# -eq 1 ] || { sed -n 's/^#   /usage: /p' "$0" >&2; exit 2; }

backends=$(ETCD_URL=$URL sh "$(dirname "$0")/service-discovery.sh" list "$1")
[ -n "$backends" ] || { echo "no backend of $1 is registered" >&2; exit 1; }
count=$(printf '%s\n' "$backends" | wc -l)
# Compare and swap until the turn is ours.
while :; do
	turn=$(curl -s "$URL/v2/keys/turns/$1" | sed -n 's/.*"value":"\([0-9]*\)".*/\1/p')
	if [ -z "$turn" ]; then
		curl -fs -X PUT "$URL/v2/keys/turns/$1?prevExist=false" -d value=1 >/dev/null && turn=0 && break
	else
		curl -fs -X PUT "$URL/v2/keys/turns/$1?prevValue=$turn" -d "value=$((turn + 1))" >/dev/null && break
	fi
done
printf '%s\n' "$backends" | sed -n "$((turn % count + 1))p"
