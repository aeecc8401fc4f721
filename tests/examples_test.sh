#!/bin/sh
# Each recipe in examples/ does what its head says.
. "$(dirname "$0")/lib.sh"
ex=$top/examples

set -- $(ports 2)
ETCD_URL=http://127.0.0.1:$1
export ETCD_URL
start n1 --data-dir "$dir/n1" --listen-client-urls "$ETCD_URL" --advertise-client-urls "$ETCD_URL" --listen-peer-urls "http://127.0.0.1:$2"
wait_for 10 healthy "$ETCD_URL"

bg() { # NAME CMD...: in the background, output in NAME.out
	name=$1
	shift
	"$@" >"$name.out" 2>&1 &
	echo $! >"$name.pid"
}
ended() { ! kill -0 "$(cat "$1.pid")" 2>/dev/null; }

# Service discovery and load balancing.
bg a sh "$ex/service-discovery.sh" register web a 10.0.0.1:80 3
bg b sh "$ex/service-discovery.sh" register web b 10.0.0.2:80 3
listed() { [ "$(sh "$ex/service-discovery.sh" list web | wc -l)" = "$1" ]; }
wait_for 5 listed 2
check "$(printf 'a 10.0.0.1:80\nb 10.0.0.2:80')" sh "$ex/service-discovery.sh" list web
check 'a 10.0.0.1:80' sh "$ex/load-balancing.sh" web
check 'b 10.0.0.2:80' sh "$ex/load-balancing.sh" web
check 'a 10.0.0.1:80' sh "$ex/load-balancing.sh" web
stop b KILL # dies without a word
wait_for 10 listed 1

# Publish and subscribe.
bg sub sh "$ex/publish-subscribe.sh" subscribe news 3
watched() { curl -s "$ETCD_URL/v2/stats/store" | grep -q '"watchers":[1-9]'; }
wait_for 5 watched
for m in one two three; do sh "$ex/publish-subscribe.sh" publish news "$m"; done
wait_for 10 ended sub
check "$(printf 'one\ntwo\nthree')" cat sub.out

# Coordination.
bg w1 sh "$ex/notification.sh" ready job w1
bg w2 sh "$ex/notification.sh" ready job w2
check 'all 2 are ready' sh "$ex/notification.sh" coordinate job 2
wait_for 10 ended w1
wait_for 10 ended w2
check "$(printf 'w1 goes\nw2 goes')" cat w1.out w2.out

# Lock: critical sections do not overlap.
section='echo in >>lock.log; sleep 0.2; echo out >>lock.log'
for i in 1 2 3; do bg l$i sh "$ex/lock.sh" door sh -c "$section"; done
for i in 1 2 3; do wait_for 15 ended l$i; done
check "$(printf 'in\nout\nin\nout\nin\nout')" cat lock.log

# Queue: in order, each message once.
bg t1 sh "$ex/queue.sh" take jobs
for m in first second; do sh "$ex/queue.sh" put jobs $m; done
wait_for 10 ended t1
check first cat t1.out
check second sh "$ex/queue.sh" take jobs

# Leader election.
TTL=2
export TTL
bg e1 sh "$ex/leader-election.sh" run boss e1 sleep 2
leads() { [ "$(sh "$ex/leader-election.sh" leader boss)" = "$1" ]; }
wait_for 5 leads e1
bg mon sh "$ex/leader-election.sh" monitor boss 2
bg e2 sh "$ex/leader-election.sh" run boss e2 sleep 3
wait_for 15 leads e2
wait_for 10 ended mon
check 'leader: e1' head -n 1 mon.out
finish
