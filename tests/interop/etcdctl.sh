#!/bin/sh
# Each command of the v3 etcdctl, theirs and ours, against their server and
# ours: what four runs of one session print and exit with must be the same. All
# four servers have the same URLs, one after another, so that the ids are equal,
# too; what differs from run to run by right (leases, sizes, times) is masked.
. "$(dirname "$0")/lib.sh"

# --- A session: `x` runs a step and records what it printed. ---------------------

mask() { # the session's lease ids, then what nobody can foresee
	sed -E -e "s/$lease|$lease_decimal/LEASE/g; s/$second|$second_decimal/SECOND/g" \
		-e '/^\{"level"/d; /^\[?[A-Z]* ?[0-9-]+[ T][0-9:.]+.*(retry|warn)/d' \
		-e "s#$dir/[a-z]*/#DIR/#g" \
		-e '/^stderr: 20[0-9: .-]+ [NW] \| etcdctl: /d; s/^stderr: 20[0-9: .-]+ ([WC])/stderr: \1/' \
		-e 's/took = [0-9.a-zµ]+/took = TIME/; s/[0-9.]+(ms|µs|s)\b/TIME/g; s/(took|Took)"?: ?"?[0-9.a-zµ]+/\1 TIME/g' \
		-e 's/remaining\([0-9]+s\)/remaining(N)/; s/"ttl":[0-9]+/"ttl":N/; s/^"TTL" : [0-9]+/"TTL" : N/' \
		-e 's/"(raft_term|raftIndex|raftAppliedIndex|raftTerm|dbSize|dbSizeInUse|totalSize)":[0-9]+/"\1":N/g' \
		-e 's/^"(RaftTerm|RaftIndex|RaftAppliedIndex|DBSize|DBSizeInUse|TotalSize|Raft Term|Raft Index|Raft Applied Index)" : [0-9]+/"\1" : N/' \
		-e 's/true, false, [0-9]+, [0-9]+, [0-9]+/true, false, N, N, N/; s/[0-9]+ \|  +[0-9]+ \|  +[0-9]+ \|  +\|$/N | N | N | |/' \
		-e 's/((held|race)\/)[0-9a-f]{12,16}/\1LEASE/; s/^lease [0-9a-f]{12,16} granted/lease LEASE granted/; s/lease [0-9a-f]{12,16} revoked/lease LEASE revoked/; s/^Member +/Member /' \
		-e '/ HEALTH /s/ +TOOK +/ TOOK /; /^\+-+\+-+\+-+\+-+\+$/s/-+/-/g' \
		-e 's/(ETCD_INITIAL_CLUSTER=")([^"]*),(default=[^,"]*)/\1\3,\2/' \
		-e 's/[0-9.]+ [kM]B/SIZE/g' -e 's/_created"[^}]*//' "$1"
}

x() { # ARGS...
	[ -z "${VERBOSE:-}" ] || echo "$step $*"
	step=$((step + 1))
	xn=$out/$(printf %03d $step)
	printf '$ etcdctl %s\n' "$*" >"$xn.cmd"
	timeout 20 "$ctl" --endpoints "$client" "$@" >"$xn.stdout" 2>"$xn.stderr" <"$in"
	status=$?
	{
		cat "$xn.stdout"
		sed 's/^/stderr: /' "$xn.stderr" | grep -v '^stderr: {"level"'
		echo "[exit $status]"
	} >"$xn.raw"
	in=/dev/null
}

# Run a step in the background, until `text` was printed N times; then a signal.
# Its output counts, and so does its status.
begin() { # ARGS...
	[ -z "${VERBOSE:-}" ] || echo "$step $*"
	step=$((step + 1))
	xn=$out/$(printf %03d $step)
	printf '$ etcdctl %s\n' "$*" >"$xn.cmd"
	"$ctl" --endpoints "$client" "$@" >"$xn.raw" 2>"$xn.stderr" <"$in" &
	bg=$! bgn=$xn
	in=/dev/null
}

printed() { # TEXT N
	[ "$(grep -c -- "$1" "$bgn.raw")" -ge "$2" ]
}

until_printed() { # TEXT N
	wait_for 10 printed "$1" "$2"
}

end() { # SIGNAL
	kill "-$1" $bg 2>/dev/null
	wait $bg 2>/dev/null
	status=$?
	cat "$bgn.stderr" >>"$bgn.raw"
	echo "[exit $status]" >>"$bgn.raw"
}

feed() { # lines for the next step to read
	printf '%b' "$1" >"$out/input"
	in=$out/input
}

keys() {
	x put k1 v1
	x put k1 v2 --prev-kv
	x put k2 'two words' -w json
	x put k3 -- -dash
	feed 'from stdin'
	x put k4
	x put k1 --ignore-value --prev-kv -w fields
	x put k1 x --ignore-value
	x put '' empty
	x put nolease v --lease=1234
	x put k1 v --lease=zz
	x put
	for format in simple json fields table protobuf; do
		x get k1 -w $format
		x get k --prefix -w $format
		x get nothing -w $format
	done
	x get k1 --hex
	x get k1 --hex -w json
	x get k1 --print-value-only
	x get k --prefix --keys-only
	x get k --prefix --limit=2 -w json
	x get k2 --from-key
	x get k1 k3
	x get '' --prefix --order=DESCEND --sort-by=MODIFY
	x get '' --prefix --order=ASCEND --sort-by=VERSION
	x get '' --prefix --order=DESCEND --sort-by=VALUE
	x get '' --prefix --sort-by=CREATE
	x get '' --prefix --sort-by=MODIFY --limit=2
	x get '' --prefix --sort-by=MODIFY --order=ASCEND --limit=2
	x get '' --prefix --sort-by=WRONG
	x get '' --prefix --order=WRONG
	x get k1 --rev=2
	x get k1 --rev=999
	x get k1 --consistency=s
	x get k1 --consistency=q
	x get k --prefix --from-key
	x get k1 k3 --prefix
	x get
	x del k4 --prev-kv
	x del k4
	x del k3 -w json
	x put r1 1
	x put r2 2
	x put r3 3
	x del r1 r3
	x del r3 --from-key --prev-kv -w fields
	x put p1 1
	x put p2 2
	x del p --prefix -w table
	x del
	x del p --prefix --from-key
	x nonsense
	x get k1 -w nonsense
	export ETCDCTL_SLIP=1
	x get k1
	unset ETCDCTL_SLIP
	x endpoint health --endpoints "$client"
	x get k1 --endpoints http://127.0.0.1:1
}

transactions() {
	feed 'value("k1") = "v2"\nmod("k2") > "0"\nver("k1") != "9"\ncreate("nope") = "0"\n\nput t1 one\nget k1\ndel k2\n\nput t2 no\n\n'
	x txn
	feed 'value("k1") = "wrong"\n\nput t1 no\n\nget t1\nget k --prefix\n\n'
	x txn
	feed '\nget k1\n\n\n'
	x txn -w json
	feed '\nput "quoted key" "quoted \\"value\\""\nget "quoted key"\n\n\n'
	x txn -w fields
	feed '\nput same 1\nput same 2\n\n\n'
	x txn
	feed 'nonsense("k1") = "1"\n\n\n\n'
	x txn
	feed 'mod("k1" = "1"\n\n\n\n'
	x txn
	feed ' mod( "k1") = "1" \n\n\n\n'
	x txn
	feed 'mod("k1")= "1"\n\n\n\n'
	x txn
	feed 'mod("k1") ="1"\n\n\n\n'
	x txn
	feed ' val("k1") = "v2"\t\n \n  get k1 \n\t\n \r\n'
	x txn
	for word in put get del nonsense; do
		feed "\n$word\n\n\n"
		x txn
	done
	feed 'mod("k1") = "0"\n\nget k1\n\nput i1 1\n\n'
	x txn -i
	feed '\nget k1\n\n\n'
	x txn -w table
	feed '\nget k1\n\n\n'
	x txn -w protobuf
}

history() {
	x endpoint hashkv
	x endpoint hashkv -w json
	x endpoint hashkv -w fields
	x endpoint hashkv --rev=5
	x endpoint hashkv --rev=500
	x compaction 8
	x compaction 8
	x compaction 800
	x compaction zz
	x compaction
	x compaction 10 --physical
	x get k1 --rev=2
	x endpoint hashkv -w table
	x endpoint hashkv --rev=10
	x endpoint hashkv --rev=11
	x defrag
	x get k --prefix
}

watches() {
	begin watch w --prefix --prev-kv
	sleep 0.3
	x put w1 1
	x put w1 2
	x del w1
	until_printed DELETE 1
	end TERM
	begin watch w1 --rev=11 -w json
	until_printed '"type":1' 1
	end TERM
	begin watch w1 --rev=11 -w fields
	until_printed DELETE 1
	end TERM
	begin watch w1 --rev=3
	wait $bg
	end TERM
	begin watch wx -- sh -c 'echo "$ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"'
	sleep 0.3
	x put wx exec
	until_printed PUT 1
	end TERM
	begin watch wy -- sh -c 'exit 3'
	sleep 0.3
	x put wy fails
	until_printed PUT 1
	sleep 0.3
	end TERM
	begin watch wy -- /nonexistent
	sleep 0.3
	x put wy fails
	until_printed PUT 1
	sleep 0.3
	end TERM
	begin watch wa wc --rev=11
	sleep 0.1
	x put wb range
	until_printed range 1
	end TERM
	feed 'watch wi\nwatch wj --rev 11\nnonsense\n'
	x watch -i
	for line in 'watch a --bogus' 'watch a --rev=x' 'watch a --' 'watch a -w json' 'watch a b c'; do
		feed "$line\n"
		x watch -i
	done
	mkfifo "$dir/typed"
	exec 8<>"$dir/typed"
	printf 'watch wi\nprogress\n' >&8
	in=$dir/typed
	begin watch -i
	until_printed 'progress notify' 1
	end TERM
	exec 8>&-
	rm "$dir/typed"
	x watch
}

leases() {
	x lease grant 300
	lease=$(awk '{print $2; exit}' "$xn.raw")
	lease_decimal=$((0x${lease:-1}))
	x put l1 leased --lease="$lease"
	x put l2 unleased
	x put l1 more --ignore-lease
	x get l1 -w json
	for format in simple json fields table; do
		x lease timetolive "$lease" -w $format
		x lease timetolive "$lease" --keys -w $format
		x lease list -w $format
	done
	x lease keep-alive "$lease" --once
	x lease keep-alive "$lease" --once -w json
	x lease keep-alive 1234 --once
	x lease timetolive 1234
	x lease timetolive 1234 -w json
	x lease revoke "$lease"
	x lease revoke "$lease"
	x get l --prefix
	x lease grant 2 -w json
	second_decimal=$(sed -n 's/.*"ID":\([0-9]*\).*/\1/p' "$xn.raw")
	second=$(printf %x "${second_decimal:-1}")
	x put l3 fleeting --lease="$second"
	begin lease keep-alive "$second"
	until_printed 'TTL(2)' 2
	x lease revoke "$second"
	wait $bg
	end TERM
	x lease grant zz
	x lease grant
	x lease grant 0
	zero=$(awk '{print $2; exit}' "$xn.raw")
	x lease revoke "$zero"
	echo "$ etcdctl lease revoke" >"$xn.cmd"
	x lease grant 9000000001
	x lease revoke zz
}

members() {
	for format in simple json fields table; do
		x endpoint status -w $format
		x member list -w $format
		x endpoint health -w $format
	done
	x endpoint status --cluster
	x endpoint health --cluster
	id=$(sed -n 's/^"MemberID" : \([0-9]*\).*/\1/p' "$out"/*.raw | head -n 1)
	id=$(printf %x "$id")
	x member update "$id" --peer-urls="$peer"
	x member update "$id"
	x member update 1234 --peer-urls="$peer"
	x member remove 1234
	x member remove zz
	x member promote 1234
	x member promote "$id"
	x member add second
	x member add second --peer-urls=nonsense
	x member add second --peer-urls="$peer"
	x member add second --peer-urls="$peer2" --learner
	learner=$(sed -n 's/^Member *\([0-9a-f]*\) added.*/\1/p' "$xn.raw")
	learner_decimal=$(printf %u "0x${learner:-1}")
	x member list
	sort -k 2 "$xn.raw" -o "$xn.raw"
	x member promote "$learner"
	x member remove "$learner" -w json
	x move-leader 1234
	x move-leader "$id"
	x alarm list
	x alarm disarm
	x alarm list -w json
	x version
}

locks() {
	x lock mutex -- sh -c 'echo inside'
	x lock mutex -- sh -c 'exit 7'
	x lock mutex -- sh -c 'kill -KILL $$'
	feed 'not for the command'
	x lock mutex cat
	begin lock held
	until_printed held/ 1
	x get held --prefix --print-value-only
	end TERM
	x get held --prefix -w fields
	begin elect race one
	until_printed one 1
	leading=$bg leading_name=$bgn
	begin elect race two
	sleep 0.5
	end TERM
	x elect race -l -w table
	begin elect race -l
	until_printed one 1
	end TERM
	bg=$leading bgn=$leading_name
	end TERM
	x elect
	x lock
}

mirror() { # of itself, to another prefix
	begin make-mirror --prefix w --dest-prefix mirrored- "$client"
	wait_for 10 sh -c "'$ctl' --endpoints $client get mirrored-x | grep -q exec"
	end TERM
	: >"$bgn.raw" # it may have printed a count
	x get mirrored --prefix
	x make-mirror
}

snapshots() {
	rm -rf "$out/saved.db" "$out/restored"
	x snapshot save "$out/saved.db"
	x snapshot save
	x snapshot save "$out"
	x snapshot status "$out/nothing.db"
	x snapshot restore "$out/nothing.db" --data-dir "$out/restored"
	x snapshot restore "$out/saved.db" --data-dir "$out/restored" --name x
	x snapshot restore "$out/saved.db" --data-dir "$out/restored" --initial-cluster=
	x snapshot restore "$out/saved.db" --data-dir "$out/restored" --initial-cluster nonsense
	x snapshot restore "$out/saved.db" --data-dir "$out/restored"
	mv "$xn.stderr" "$out/dropped" # a log
	echo "[exit $status]" >"$xn.raw"
	x snapshot restore "$out/saved.db" --data-dir "$out/restored"
}

users() {
	x user add root:pw
	x user add alice:secret -w json
	x user add bob --no-password
	x user add carol --new-user-password=pw
	feed 'pw\n'
	x user add dave --interactive=false
	x user add alice:again
	x user add
	x role add reader
	x role add reader
	x role add writer -w json
	x role grant-permission reader read k --prefix
	x role grant-permission reader read a b
	x role grant-permission reader read z --from-key
	x role grant-permission writer readwrite w
	x role grant-permission writer read '' --from-key
	x role grant-permission writer read "$(printf 'k\377')" --prefix
	x role grant-permission writer read "$(printf '\377')" --prefix
	x role get writer
	x role grant-permission writer nonsense w
	x role grant-permission nobody read w
	for format in simple json fields table; do
		x role get reader -w $format
		x role list -w $format
		x user list -w $format
		x user get alice -w $format
	done
	x user grant-role alice reader
	x user grant-role alice reader
	x user grant-role alice nobody
	x user grant-role nobody reader
	x user get alice
	x user get alice --detail
	x user get alice --detail -w json
	x user get alice --detail -w fields
	x user revoke-role alice writer
	x user get nobody
	x role get nobody
	x role grant-permission reader read ''
	x role get reader -w json
	x role revoke-permission reader ''
	feed 'new\n'
	x user passwd carol --interactive=false
	x auth enable
	x user grant-role root root
	x auth enable
	x get k1
	x get k1 --user alice:secret
	x get k1 --user alice:wrong
	x put k1 v --user alice:secret
	x get w1 --user alice --password secret
	x get k1 --user bob:
	x get '' --prefix --user root:pw --keys-only
	x user list --user alice:secret
	x user list --user root:pw
	x compaction 12 --user alice:secret
	x endpoint status --user alice:secret
	x endpoint health --user alice:secret
	x endpoint hashkv
	x endpoint hashkv --user alice:secret
	x defrag
	x defrag --user alice:secret
	for asks in 'endpoint status' 'endpoint status --cluster' 'endpoint health' 'endpoint hashkv' defrag \
		'move-leader 1' 'member list' 'lock mutex' "snapshot save $out/denied.db"; do
		x $asks --user alice:wrong
	done
	x snapshot save "$out/denied.db" --user alice:secret
	x lease grant 100 --user alice:secret -w fields
	echo "[exit $status]" >"$xn.raw"
	x role revoke-permission reader k --prefix --user root:pw
	x role revoke-permission reader k --prefix --user root:pw
	x get k1 --user alice:secret
	x user revoke-role alice reader --user root:pw
	x role delete reader --user root:pw
	x user delete root --user root:pw
	x auth disable --user alice:secret
	x auth disable --user root:pw
	x user delete bob
	x user delete bob
	x role delete nobody
}

quorumless() { # who cannot write any more still sees the members
	x member add stray --peer-urls="$peer2"
	stray=$(sed -n 's/^Member *\([0-9a-f]*\) added.*/\1/p' "$xn.raw")
	x member list
	sort -k 2 "$xn.raw" -o "$xn.raw"
	x endpoint status --cluster
}

session() { # NAME SERVER-PROGRAM CTL
	out=$dir/$1 ctl=$3 step=0 in=/dev/null
	lease=nolease lease_decimal=nolease second=nosecond second_decimal=nosecond
	mkdir "$out"
	serve default "$2" "$dir/$1.data"
	keys
	transactions
	history
	watches
	leases
	members
	locks
	snapshots
	users
	mirror
	quorumless
	stop default
	for raw in "$out"/*.raw; do
		{
			cat "${raw%.raw}.cmd"
			mask "$raw"
		} | awk '!(/Error:/ && seen[$0]++)' | sed -E "s/$lease|$second/LEASE/g; s/${learner:-nolearner}|${learner_decimal:-nolearner}/LEARNER/g; s/ *${stray:-nobody}/STRAY/g; s#$out#DIR#g" >"${raw%.raw}.txt"
	done
}

compare() { # NAME
	for want in "$dir"/theirs/*.txt; do
		same "$1: $(head -n 1 "$want")" "$want" "$dir/$1/${want##*/}"
	done
}

session theirs "$REAL_ETCD" "$REAL_CTL"
session our-server "$top/etcd" "$REAL_CTL"
session our-client "$REAL_ETCD" "$CTL"
session ours "$top/etcd" "$CTL"
compare our-server
compare our-client
compare ours
finish
