#!/bin/sh
# Monitoring and leader election: candidates create one key; who succeeds leads
# while it refreshes the TTL; the others watch the key and try when it is gone.
#
#   leader-election.sh run ELECTION NAME COMMAND...  run COMMAND when elected
#   leader-election.sh leader ELECTION               print who leads
#   leader-election.sh monitor ELECTION [COUNT]      print changes of leader
URL=${ETCD_URL:-http://127.0.0.1:2379}
TTL=${TTL:-5}
key=$URL/v2/keys/elections/${2:-}

leader() { curl -fs "$key?quorum=true" | sed -n 's/.*"value":"\([^"]*\)".*/\1/p'; }

case ${1:-} in
run)
	name=$3
	shift 3
	until curl -fs -X PUT "$key?prevExist=false" -d "value=$name" -d "ttl=$TTL" >/dev/null; do
		curl -fs -m "$TTL" "$key?wait=true" >/dev/null
	done
	(while sleep $((TTL > 2 ? TTL / 3 : 1)); do
		curl -fs -X PUT "$key?prevValue=$name" -d refresh=true -d "ttl=$TTL" >/dev/null || exit
	done) &
	keeper=$!
	trap 'kill $keeper 2>/dev/null; curl -s -X DELETE "$key?prevValue=$name" >/dev/null' EXIT
	trap 'exit 130' INT TERM
	"$@"
	;;
leader) leader ;;
monitor)
	left=${3:--1} last=
	while [ "$left" -ne 0 ]; do
		now=$(leader)
		if [ "$now" != "$last" ]; then
			echo "leader: ${now:-none}"
			left=$((left - 1)) last=$now
		else
			curl -fs -m "$TTL" "$key?wait=true" >/dev/null
		fi
	done
	;;
*) sed -n 's/^#   /usage: /p' "$0" >&2; exit 2 ;;
esac
