#!/bin/sh
# A distributed queue: in-order keys go in, the oldest is taken out by compare
# and delete, so that each message is delivered to exactly one consumer.
#
#   queue.sh put NAME MESSAGE
#   queue.sh take NAME           print the oldest message, waiting for one
URL=${ETCD_URL:-http://127.0.0.1:2379}
queue=$URL/v2/keys/queues/${2:-}

case ${1:-} in
put)
	curl -fsS -X POST "$queue" --data-urlencode "value=$3" >/dev/null
	;;
take)
	while :; do
		answer=$(curl -s -i "$queue?sorted=true&quorum=true")
		etcd_index=$(printf %s "$answer" | tr -d '\r' | sed -n 's/^X-Etcd-Index: //p')
		first=$(printf %s "$answer" | grep -o '{"key":"/queues/[^"]*/[0-9]*","value":"[^"]*","modifiedIndex":[0-9]*' | head -n 1)
		if [ -z "$first" ]; then
			curl -fs -m 60 "$queue?wait=true&recursive=true&waitIndex=$((etcd_index + 1))" >/dev/null
			continue
		fi
		key=$(printf %s "$first" | cut -d'"' -f4)
		index=${first##*:}
		curl -fs -X DELETE "$URL/v2/keys$key?prevIndex=$index" >/dev/null || continue
		printf '%s\n' "$first" | cut -d'"' -f8
		break
	done
	;;
*) sed -n 's/^#   /usage: /p' "$0" >&2; exit 2 ;;
esac
