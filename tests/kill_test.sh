#!/bin/sh
# kill -9 of one node, and of all nodes at once, while clients write: nothing
# that was acknowledged may be lost, and all members must hold the same.
# ROUNDS=50 tests/kill_test.sh for the long form.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-4}
load=$top/$BUILD/tests/loadtool

set -- $(ports 6)
c1=$1 c2=$2 c3=$3 p1=$4 p2=$5 p3=$6
initial=n1=http://127.0.0.1:$p1,n2=http://127.0.0.1:$p2,n3=http://127.0.0.1:$p3

node() { # NUMBER
	c='' p=''
	eval "c=\$c$1 p=\$p$1"
	start "n$1" --data-dir "$dir/n$1" --listen-client-urls "http://127.0.0.1:$c" --advertise-client-urls "http://127.0.0.1:$c" \
		--listen-peer-urls "http://127.0.0.1:$p" --initial-advertise-peer-urls "http://127.0.0.1:$p" --initial-cluster "$initial" \
		--snapshot-count 2000 --heartbeat-interval 50 --election-timeout 500
}

all_healthy() {
	for i in 1 2 3; do
		eval "c=\$c$i"
		wait_for 30 healthy "http://127.0.0.1:$c"
	done
}

digest() { # PORT, after a linearizable read has brought it up to date
	curl -s "http://127.0.0.1:$1/v2/keys/load?quorum=true" >/dev/null
	curl -s "http://127.0.0.1:$1/v2/keys/load?recursive=true&sorted=true" | cksum
}

for i in 1 2 3; do node $i; done
all_healthy
round=1
while [ "$round" -le "$rounds" ] && [ $failed = 0 ]; do
	"$load" write 8 "$dir/acked" 127.0.0.1:$c1 127.0.0.1:$c2 127.0.0.1:$c3 >load.out &
	echo $! >load.pid
	sleep 0.7
	victims=$((round % 4))
	[ $victims = 0 ] && victims='1 2 3'
	for v in $victims; do kill -KILL "$(cat "n$v.pid")"; done
	for v in $victims; do stop "n$v" KILL; done
	sleep 0.4
	for v in $victims; do node "$v"; done
	all_healthy
	sleep 0.3
	stop load
	"$load" verify "$dir/acked" 127.0.0.1:$c2 >verify.out || { cat verify.out; failed=1; }
	want=$(digest $c1)
	check "$want" digest $c2
	check "$want" digest $c3
	echo "round $round, killed $victims: $(cat load.out); $(tail -n 1 verify.out)"
	round=$((round + 1))
done
finish
