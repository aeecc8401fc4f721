#!/bin/sh
# Two honest members and one that lies (see tests/liartool.c). Whatever it says,
# they live, keep serving, do not grow, say little about it, and start again
# with what they had acknowledged.
. "$(dirname "$0")/lib.sh"
RSS_MAX_KB=${RSS_MAX_KB:-300000} # sanitizers need more
[ -n "${SAN:-}" ] && RSS_MAX_KB=2000000
LOG_MAX_LINES=1000

set -- $(ports 5)
c1=$1 p1=$2 c2=$3 p2=$4 p3=$5
cluster="n1=http://127.0.0.1:$p1,n2=http://127.0.0.1:$p2,n3=http://127.0.0.1:$p3"

honest() { # NAME CLIENT-PORT PEER-PORT
	start "$1" --data-dir "$dir/$1" --heartbeat-interval 20 --election-timeout 200 \
		--listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2" \
		--listen-peer-urls "http://127.0.0.1:$3" --initial-advertise-peer-urls "http://127.0.0.1:$3" \
		--initial-cluster "$cluster"
}

rss() { # NAME: kB, of its whole life
	awk '/^VmHWM/ {print $2}' "/proc/$(cat "$dir/$1.pid")/status"
}

honest n1 "$c1" "$p1"
honest n2 "$c2" "$p2"
wait_for 20 healthy "http://127.0.0.1:$c1"
check 0 sh -c "curl -s -o /dev/null -X PUT http://127.0.0.1:$c1/v2/keys/kept -d value=yes; echo \$?"

"$top/$BUILD/tests/liartool" "$cluster" "http://127.0.0.1:$p3" "http://127.0.0.1:$c1" "http://127.0.0.1:$c2" || failed=1

for n in n1 n2; do
	kill -0 "$(cat "$dir/$n.pid")" 2>/dev/null || { echo "$n is gone"; failed=1; continue; }
	echo "$n: $(rss $n) kB at most, $(wc -l <"$dir/$n.log") lines"
	[ "$(rss $n)" -le "$RSS_MAX_KB" ] || { echo "$n has grown"; failed=1; }
	[ "$(wc -l <"$dir/$n.log")" -le $LOG_MAX_LINES ] || { echo "$n says too much"; failed=1; }
	stop $n KILL
done

honest n1 "$c1" "$p1"
honest n2 "$c2" "$p2"
wait_for 20 healthy "http://127.0.0.1:$c1"
for c in "$c1" "$c2"; do
	check yes sh -c "curl -s 'http://127.0.0.1:$c/v2/keys/kept?quorum=true' | sed 's/.*\"value\":\"\\([a-z]*\\)\".*/\\1/'"
done
stop n1
stop n2
finish
