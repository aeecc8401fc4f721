#!/bin/sh
# Publish and subscribe: a topic is a key; subscribers wait for its next change
# and go on from the index after it, so that nothing in between is missed.
#
#   publish-subscribe.sh publish TOPIC MESSAGE
#   publish-subscribe.sh subscribe TOPIC [COUNT]    print COUNT messages (all)
URL=${ETCD_URL:-http://127.0.0.1:2379}

case ${1:-} in
publish)
	curl -fsS -X PUT "$URL/v2/keys/topics/$2" --data-urlencode "value=$3" >/dev/null
	;;
subscribe)
	key=$URL/v2/keys/topics/$2 left=${3:--1}
	# What counts is what comes after now.
	index=$(curl -s -o /dev/null -D - "$key" | tr -d '\r' | sed -n 's/^X-Etcd-Index: //p')
	while [ "$left" -ne 0 ]; do
		index=$((index + 1))
		event=$(curl -fs "$key?wait=true&waitIndex=$index") || { sleep 1; index=$((index - 1)); continue; }
		index=$(printf %s "$event" | sed 's/.*"node":{[^}]*"modifiedIndex":\([0-9]*\).*/\1/')
		printf '%s\n' "$event" | sed -n 's/.*"node":{"key":"[^"]*","value":"\([^"]*\)".*/\1/p'
		left=$((left - 1))
	done
	;;
*) sed -n 's/^#   /usage: /p' "$0" >&2; exit 2 ;;
esac
