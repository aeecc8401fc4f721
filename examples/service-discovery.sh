#!/bin/sh
# Service discovery: an instance registers itself under a key with a TTL and
# refreshes it while it lives; who looks for the service lists the directory.
# An instance that dies is gone when its TTL has run out.
#
#   service-discovery.sh register SERVICE NAME ADDRESS [TTL]   (until killed)
#   service-discovery.sh list SERVICE
URL=${ETCD_URL:-http://127.0.0.1:2379}

case ${1:-} in
register)
	key=$URL/v2/keys/services/$2/$3 ttl=${5:-10}
	curl -fsS -X PUT "$key" -d "value=$4" -d "ttl=$ttl" >/dev/null || exit 1
	trap 'curl -s -X DELETE "$key" >/dev/null; exit 0' INT TERM
	while sleep $((ttl > 2 ? ttl / 3 : 1)); do
		# A refresh wakes no watcher. If the key expired, register anew.
		curl -fs -X PUT "$key" -d refresh=true -d prevExist=true -d "ttl=$ttl" >/dev/null ||
			curl -fsS -X PUT "$key" -d "value=$4" -d "ttl=$ttl" >/dev/null
	done
	;;
list)
	curl -fs "$URL/v2/keys/services/$2?sorted=true" | tr '{' '\n' |
		sed -n 's|.*"key":"/services/[^/]*/\([^"]*\)","value":"\([^"]*\)".*|\1 \2|p'
	;;
*) sed -n 's/^#   /usage: /p' "$0" >&2; exit 2 ;;
esac
