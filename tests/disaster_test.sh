#!/bin/sh
# When members are lost: etcdctl recover over a cluster's data directories, a
# new cluster from the best of them, a member whose log is damaged or whose disk
# is gone brought back, and what must be refused meanwhile.
. "$(dirname "$0")/lib.sh"
load=$top/$BUILD/tests/loadtool

set -- $(ports 6)
c1=$1 c2=$2 c3=$3 p1=$4 p2=$5 p3=$6
keep=100000 # --snapshot-count: first all entries stay in the log
initial=n1=http://127.0.0.1:$p1,n2=http://127.0.0.1:$p2,n3=http://127.0.0.1:$p3

urls() { # NUMBER: sets $c and $p
	c='' p=''
	eval "c=\$c$1 p=\$p$1"
}

node() { # NUMBER [ARGS...]
	urls "$1"
	number=$1
	shift
	start "n$number" --data-dir "n$number" --listen-client-urls "http://127.0.0.1:$c" \
		--advertise-client-urls "http://127.0.0.1:$c" --listen-peer-urls "http://127.0.0.1:$p" \
		--initial-advertise-peer-urls "http://127.0.0.1:$p" --initial-cluster "$initial" --snapshot-count $keep "$@"
}

up() { # NUMBER...
	for i in "$@"; do
		urls "$i"
		wait_for 30 healthy "http://127.0.0.1:$c"
	done
}

put() { # NUMBER KEY VALUE
	urls "$1"
	curl -s -m 5 -X PUT "http://127.0.0.1:$c/v2/keys/$2" -d "value=$3" | grep -q '"action":"set"'
}

holds() { # NUMBER KEY VALUE, on that member itself
	urls "$1"
	curl -s -m 2 "http://127.0.0.1:$c/v2/keys/$2" | grep -q "\"value\":\"$3\""
}

fail() {
	echo "FAIL: $*"
	failed=1
}

# CMD's output, of both kinds, must hold TEXT; it is left in ./out, and the
# status in $status.
expect() { # TEXT CMD...
	text=$1
	shift
	"$@" >out 2>&1
	status=$?
	grep -qF -e "$text" out || {
		fail "no \"$text\" from: $*"
		sed 's/^/  /' out
	}
}

dies_of() { # NUMBER TEXT: a start that is refused, and says so
	wait "$(cat "n$1.pid")"
	[ $? -eq 1 ] || fail "n$1 did not end with status 1"
	rm -f "n$1.pid"
	tail -n 1 "n$1.log" | grep -qF -e "$2" || fail "n$1 does not say \"$2\": $(tail -n 1 "n$1.log")"
}

damage() { printf '\377' | dd of="$(ls "n$1"/member/wal/*.wal | head -n 1)" bs=1 seek=300 conv=notrunc 2>/dev/null; }
tree() { find "$1" -type f -exec cksum {} + | sort; }

# What a printed command names etcd and etcdctl are those under test; a server
# goes to the background.
as_printed() { # REGEX: runs the lines of ./plan that match
	grep -E "^    $1" plan | sed "s|^    ||; s|^etcdctl |$CTL |" >commands
	[ -s commands ] || fail "no line like \"$1\" in the plan"
	. ./commands
}
etcd() {
	start n1 "$@"
}

# --- Two of three are lost. -------------------------------------------------

for i in 1 2 3; do node $i; done
up 1 2 3
put 1 first word
expect "by process $(cat n1.pid)" "$CTL" recover status n1
expect 'is in use by process' "$CTL" recover rejoin n1
stop n3 KILL
wait_for 10 put 2 two left # there is a leader
"$load" write 4 "$dir/acked" "127.0.0.1:$c1" "127.0.0.1:$c2" >load.out &
echo $! >load.pid
wrote() { [ "$(curl -s -m 2 "http://127.0.0.1:$c1/v2/keys/" -D - -o /dev/null | sed -n 's/^X-Etcd-Index: \([0-9]*\).*/\1/p')" -gt 600 ]; }
wait_for 20 wrote
stop load
wait_for 10 put 1 last word # acknowledged by n1 and n2
stop n1 KILL
stop n2 KILL

# Looking changes nothing, down to the times of files.
stamps() { find n1 n2 n3 -exec stat -c '%n %Y %Z' {} + | sort; }
stamps >before
"$CTL" recover status n1 n2 n3 >plan || fail "status $?"
stamps | cmp -s - before || fail 'recover status changed something'
grep -q 'last write   set /last, modifiedIndex [0-9]*, raft index [0-9]* of term' plan || fail 'no last write'
grep -Eq '^n[12] is the most advanced' plan || fail 'the best is not named'
grep -q '^n3 lacks raft indexes .* writes: .* more\.' plan || fail 'what n3 lacks is not told'
grep -q '3 of 3 voting members are here .* nothing that was acknowledged is lost' plan || fail 'no word of the quorum'
expect '"best":"n' "$CTL" recover status -o json n1 n2 n3
check 0 echo "$status"

rm -rf n2 n3
"$CTL" recover status n1 >plan || fail "status $?"
grep -q '1 of 3 voting members are here, which is no quorum' plan || fail 'the lost quorum is not told'
as_printed 'cp -a|etcd '
up 1
as_printed 'etcdctl .*cluster-health' >/dev/null
[ -d n1.saved/member/wal ] || fail 'no copy was kept'
holds 1 last word || fail 'the last write is gone'
"$load" verify "$dir/acked" "127.0.0.1:$c1" || fail 'acknowledged writes are gone'

# The flag given twice does no harm while there is nobody else.
stop n1 KILL
node 1 --force-new-cluster
up 1
holds 1 last word || fail 'lost by the second --force-new-cluster'
stop n1
keep=500 # whoever joins gets a snapshot
node 1
up 1

# Two new members, as printed.
joins() { # NUMBER: what ./out prints, with an empty data directory
	grep '^ETCD_' out >settings || fail 'no settings were printed'
	urls "$1"
	(
		set -a
		. ./settings
		exec "$ETCD" --data-dir "n$1" --listen-client-urls "http://127.0.0.1:$c" --advertise-client-urls "http://127.0.0.1:$c" \
			--listen-peer-urls "http://127.0.0.1:$p" --initial-advertise-peer-urls "http://127.0.0.1:$p" --snapshot-count $keep
	) >>"n$1.log" 2>&1 &
	echo $! >"n$1.pid"
}
for i in 2 3; do
	added() { as_printed "etcdctl .*member add n$i" >out 2>&1; }
	wait_for 15 added
	joins $i
	up $i
	wait_for 20 holds $i last word
done
"$load" verify "$dir/acked" "127.0.0.1:$c3" || fail 'acknowledged writes are missing on a new member'
for i in 2 3; do put $i "from$i" yes || fail "no write through n$i"; done

# With a quorum at hand it is refused.
stop n1
node 1 --force-new-cluster
dies_of 1 'the cluster is not lost'
node 1
up 1 2 3

# --- A damaged log. ---------------------------------------------------------

eps="--endpoints http://127.0.0.1:$c1,http://127.0.0.1:$c2,http://127.0.0.1:$c3"
stop n3
expect 'not damaged' "$CTL" $eps recover rejoin n3
check 1 echo "$status"
stop n2 KILL
damage 3
node 3
dies_of 3 "$(basename "$(ls n3/member/wal/*.wal | head -n 1)") at offset"
tail -n 1 n3.log | grep -q 'etcdctl --endpoints [^ ]* recover rejoin n3' || fail 'the refusal does not name the command'
expect 'damaged: wal: ' "$CTL" recover status n3
check 5 echo "$status"

# Not without n2, which is down as well; and nothing has changed then.
tree n3 >before
expect 'is not healthy' "$CTL" $eps recover rejoin n3
check 1 echo "$status"
tree n3 | cmp -s - before || fail 'a refused rejoin changed the directory'
node 2
up 1 2

expect 'Added it again as member' "$CTL" $eps recover rejoin n3/
check 0 echo "$status"
ls -d n3.damaged-*Z >/dev/null || fail 'the damaged data was not kept'
grep '^ETCD' out >first

# The service file still says "new": no second cluster.
node 3
dies_of 3 '--initial-cluster-state existing'

# Once more: the same member, the same settings.
expect 'Added it again as member' "$CTL" $eps recover rejoin n3
grep '^ETCD' out | cmp -s - first || fail 'the second run says something else'
check 3 sh -c "'$CTL' $eps member list | wc -l"
joins 3
up 3
wait_for 20 holds 3 last word
"$load" verify "$dir/acked" "127.0.0.1:$c3" || fail 'n3 has come back without some writes'
[ ! -e n3/rejoin.json ] || fail 'the note is still there'
check '' sh -c "'$CTL' recover status n1 n2 n3 | grep -E 'CONTRADICT|damaged'"

# --- An empty disk. ---------------------------------------------------------

stop n2 KILL
wait_for 10 put 1 without n2 # there is a leader again, if it was n2
rm -rf n2
node 2
dies_of 2 "recover rejoin --name n2 n2"
node 2 --initial-cluster-state existing
dies_of 2 "recover rejoin --name n2 n2"
expect 'give --name' "$CTL" $eps recover rejoin n2
expect 'no member named nobody' "$CTL" $eps recover rejoin --name nobody n2
expect 'answers at' "$CTL" $eps recover rejoin --name n1 n2
expect 'Added it again as member' "$CTL" $eps recover rejoin --name n2 n2
joins 2
up 2
wait_for 20 holds 2 last word

# --- Interrupted. -----------------------------------------------------------

# After the data was moved.
stop n3 KILL
wait_for 10 put 1 without n3
damage 3
mv n3 n3.damaged-20990101T000000Z
expect 'Added it again as member' "$CTL" $eps recover rejoin n3
joins 3
up 3

# After the removal: nothing but the note knows it.
stop n2 KILL
wait_for 10 put 1 without n2
id=$(ETCDCTL_API=2 "$CTL" $eps member list | sed -n 's/^\([0-9a-f]*\): name=n2 .*/\1/p')
rm -rf n2
mkdir n2
echo "{\"id\":\"$id\",\"name\":\"n2\",\"peerURLs\":[\"http://127.0.0.1:$p2\"],\"added\":\"0\"}" >n2/rejoin.json
"$CTL" $eps member remove "$id" >/dev/null || fail 'member remove'
node 2
dies_of 2 'existing'
expect 'Added it again as member' "$CTL" $eps recover rejoin n2
joins 2
up 2
wait_for 20 holds 2 last word

# The member that was removed is of no use any more, and says so.
stop n1
id=$(ETCDCTL_API=2 "$CTL" --endpoints "http://127.0.0.1:$c2" member list | sed -n 's/^\([0-9a-f]*\): name=n1 .*/\1/p')
node 1
up 1
sleep 5
"$CTL" --endpoints "http://127.0.0.1:$c2" member remove "$id" >/dev/null || fail 'member remove'
gone() { ! kill -0 "$(cat n1.pid)" 2>/dev/null; }
wait_for 15 gone
rm -f n1.pid
check '' sh -c "sed -n '/permanently removed/,\$p' n1.log | grep 'failed to dial' | grep -v 'permanently removed'"
expect 'was removed from its cluster' "$CTL" recover status n1
node 1 --force-new-cluster
dies_of 1 'etcdctl backup --data-dir n1'

# --- What is no data directory. ---------------------------------------------

mkdir -p wrong/etc
expect 'no member directory' "$CTL" recover status wrong
check 1 echo "$status"
expect "is it etcd's --data-dir?" "$CTL" $eps recover rejoin --name n1 wrong
expect 'it looks like the member directory' "$CTL" recover status n2/member
expect 'no such file' "$CTL" recover status nowhere
if [ "$(id -u)" -ne 0 ]; then
	chmod 000 n1/member
	expect 'permission denied' "$CTL" recover status n1
	chmod 700 n1/member
fi

# A directory of real etcd's, if it is installed: all but the v3 keys.
real=/usr/bin/etcd
if [ -x $real ] && $real --version | grep -q 'Version: 3.4'; then
	urls 1
	$real --enable-v2 --data-dir real --listen-client-urls "http://127.0.0.1:$c" --advertise-client-urls "http://127.0.0.1:$c" \
		--listen-peer-urls "http://127.0.0.1:$p" >real.log 2>&1 &
	echo $! >real.pid
	wait_for 20 put 1 real word
	expect 'in use       by a process' "$CTL" recover status real
	stop real
	expect 'last write   set /real' "$CTL" recover status real
	grep -q 'v3 data      real/member/snap/db' out || fail 'no word of the v3 data'
fi
finish
