#!/bin/sh
# Three nodes: the leader is killed under load, a follower is stopped and
# catches up (by snapshot), a fourth member joins, one is removed, the whole
# cluster restarts. WRITES=50000 for the long form.
. "$(dirname "$0")/lib.sh"
writes=${WRITES:-12000}
load=$top/$BUILD/tests/loadtool

set -- $(ports 8)
c1=$1 c2=$2 c3=$3 c4=$4 p1=$5 p2=$6 p3=$7 p4=$8
initial=n1=http://127.0.0.1:$p1,n2=http://127.0.0.1:$p2,n3=http://127.0.0.1:$p3

node() { # NUMBER [ARGS...]
	number=$1
	shift
	c='' p=''
	eval "c=\$c$number p=\$p$number"
	start "n$number" --data-dir "$dir/n$number" --listen-client-urls "http://127.0.0.1:$c" \
		--advertise-client-urls "http://127.0.0.1:$c" --listen-peer-urls "http://127.0.0.1:$p" \
		--initial-advertise-peer-urls "http://127.0.0.1:$p" --initial-cluster "$initial" --snapshot-count 1000 "$@"
}

up() { # NUMBER...
	for i in "$@"; do
		eval "c=\$c$i"
		wait_for 30 healthy "http://127.0.0.1:$c"
	done
}

find_leader() { # sets $leader
	leader=
	for i in $members; do
		eval "c=\$c$i"
		if curl -s -m 2 "http://127.0.0.1:$c/v2/stats/leader" | grep -q followers; then leader=$i; fi
	done
	[ -n "$leader" ]
}

put() { # PORT KEY VALUE
	curl -s -m 5 -X PUT "http://127.0.0.1:$1/v2/keys/$2" -d "value=$3" | grep -q '"action":"set"'
}

holds() { # PORT KEY VALUE, on that member itself
	curl -s -m 2 "http://127.0.0.1:$1/v2/keys/$2" | grep -q "\"value\":\"$3\""
}

members='1 2 3'
for i in $members; do node $i; done
up $members

# A leader that stands still is late with its heartbeats, and counts it: one
# for each of the two others.
wait_for 10 find_leader
eval "lc=\$c$leader"
late() { curl -s "http://127.0.0.1:$lc/metrics" | sed -n 's/^etcd_server_heartbeat_send_failures_total //p'; }
before=$(late)
more_late() { [ "$(late)" -ge $((before + 2)) ]; }
kill -STOP "$(cat "n$leader.pid")"
sleep 0.4 # more than two heartbeats, less than an election
kill -CONT "$(cat "n$leader.pid")"
wait_for 5 more_late

# The leader dies under load: writes go on within two election timeouts (the
# test allows for a slow machine).
"$load" write 4 "$dir/acked" 127.0.0.1:$c1 127.0.0.1:$c2 127.0.0.1:$c3 >load.out &
echo $! >load.pid
sleep 1
wait_for 10 find_leader
killed=$leader
stop "n$killed" KILL
sleep 3
stop load
gap=$(sed 's/.*gap \([0-9]*\) ms/\1/' load.out)
echo "leader killed: $(cat load.out)"
[ "$gap" -lt 4000 ] || { echo "writes stood still for $gap ms"; failed=1; }
node "$killed"
up $members
"$load" verify "$dir/acked" "127.0.0.1:$c2" || failed=1

# A follower misses many writes and catches up.
wait_for 10 find_leader
follower=$((leader % 3 + 1)) fc='' lc=''
eval "fc=\$c$follower lc=\$c$leader"
stop "n$follower"
"$load" write 16 "$dir/acked" "127.0.0.1:$lc" >load.out &
echo $! >load.pid
wrote() { [ "$(curl -s "http://127.0.0.1:$lc/v2/keys/" -D - -o /dev/null | sed -n 's/^X-Etcd-Index: \([0-9]*\).*/\1/p')" -gt "$writes" ]; }
wait_for 120 wrote
stop load
put "$lc" last "$leader"
node "$follower"
up "$follower"
wait_for 30 holds "$fc" last "$leader"
"$load" verify "$dir/acked" "127.0.0.1:$fc" || failed=1

# A fourth member joins, another one is removed and stops by itself.
sleep 5 # members must have been connected for five seconds
curl -s -X POST "http://127.0.0.1:$c1/v2/members" -H 'Content-Type: application/json' \
	-d "{\"peerURLs\":[\"http://127.0.0.1:$p4\"]}" | grep -q '"id"' || { echo 'member add failed'; failed=1; }
initial=$initial,n4=http://127.0.0.1:$p4
node 4 --initial-cluster-state existing
members='1 2 3 4'
up 4
wait_for 20 holds "$c4" last "$leader"
put "$c4" from4 yes || { echo 'no write through the new member'; failed=1; }
id3=$(curl -s "http://127.0.0.1:$c1/v2/members" | sed 's/.*"id":"\([0-9a-f]*\)","name":"n3".*/\1/')
removed() { [ "$(curl -s -o /dev/null -w '%{http_code}' -X DELETE "http://127.0.0.1:$c1/v2/members/$id3")" = 204 ]; }
wait_for 15 removed
gone() { ! kill -0 "$(cat "$dir/n3.pid")" 2>/dev/null; }
wait_for 15 gone
wait "$(cat n3.pid)"
check 0 echo $?
rm -f n3.pid
grep -q 'the member has been permanently removed from the cluster' n3.log || { echo 'n3 was not told'; failed=1; }

# All restart.
members='1 2 4'
for i in $members; do stop n$i KILL; done
for i in $members; do node $i; done
up $members
wait_for 20 holds "$c4" from4 yes
wait_for 20 holds "$c1" last "$leader"
put "$c2" after restart || { echo 'no write after the restart'; failed=1; }
finish
