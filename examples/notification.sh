#!/bin/sh
# Notification and coordination: a barrier. Workers report that they are ready,
# the coordinator waits for all of them and opens the gate, and each worker is
# told at once.
#
#   notification.sh ready JOB NAME       report, then wait until the gate opens
#   notification.sh coordinate JOB N     wait for N workers, then open the gate
URL=${ETCD_URL:-http://127.0.0.1:2379}

case ${1:-} in
ready)
	gate=$URL/v2/keys/jobs/$2/go
	curl -fsS -X PUT "$URL/v2/keys/jobs/$2/ready/$3" -d value=1 >/dev/null || exit 1
	until curl -fs "$gate" >/dev/null; do
		# From the first index on: a gate that opened meanwhile is seen too.
		curl -fs "$gate?wait=true&waitIndex=1" >/dev/null || curl -fs -m 5 "$gate?wait=true" >/dev/null
	done
	echo "$3 goes"
	;;
coordinate)
	ready=$URL/v2/keys/jobs/$2/ready
	while :; do
		answer=$(curl -s -i "$ready")
		index=$(printf %s "$answer" | tr -d '\r' | sed -n 's/^X-Etcd-Index: //p')
		count=$(printf %s "$answer" | grep -o '"key":"/jobs/[^"]*/ready/' | wc -l)
		[ "$count" -ge "$3" ] && break
		curl -fs -m 30 "$ready?wait=true&recursive=true&waitIndex=$((index + 1))" >/dev/null
	done
	curl -fsS -X PUT "$URL/v2/keys/jobs/$2/go" -d value=1 >/dev/null && echo "all $3 are ready"
	;;
*) sed -n 's/^#   /usage: /p' "$0" >&2; exit 2 ;;
esac
