#!/bin/sh
# Odd machines: cross builds, run under qemu-user. For each architecture: a
# static build without a warning, the unit tests, three members that lose one
# and take it back, and data directories that are written on one machine and
# opened on another; then a cluster of members of three kinds.
#
#   scripts/odd.sh [ARCH...]     arm aarch64 mips riscv64 s390x musl
#   QUICK=1 scripts/odd.sh       in a few minutes: all builds, some of the rest
#
# Debian's packages: gcc-arm-linux-gnueabihf gcc-aarch64-linux-gnu
# gcc-mips-linux-gnu gcc-riscv64-linux-gnu gcc-s390x-linux-gnu qemu-user
# musl-tools. What is not installed is skipped. `make all tests` comes first.
. "$(dirname "$0")/../tests/lib.sh"
self=$top/scripts/odd.sh
QUICK=${QUICK:-}
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}
LIMIT=${LIMIT:-300} # seconds for one test program
quick_tests='backend_test bolt_test crypto_test grpc_test grpcserver_test hash_test hpack_test http2_test json_test
	jwt_test lease_test msg_test mvcc_test pb_test peer_test raft_sim_test raft_test raftpb_test rpcpb_test snap_test
	store_test trie_test v3_test v3server_test wal_test watch_test'
passed=0 failures=0 skipped=0

compiler_of() {
	case $1 in
	arm) echo arm-linux-gnueabihf-gcc ;;
	musl) echo musl-gcc ;;
	*) echo "$1-linux-gnu-gcc" ;;
	esac
}

# The emulator's command; none for what runs by itself.
emulator_of() {
	case $1 in
	native | musl) ;;
	*) command -v "qemu-$1" || command -v "qemu-$1-static" ;;
	esac
}

program_of() {
	case $1 in
	native) echo "$top/etcd" ;;
	*) echo "$top/build/odd-$1/etcd" ;;
	esac
}

# --- One test program (this script calls itself, several at a time). -------

# qemu does not translate the number that SO_ERROR gives, and mips has numbers
# of its own: a test that failed by nothing else has not failed.
is_emulators_fault() { # ARCH LOG
	[ "$1" = mips ] && grep -aq 'got .*Unknown error 111' "$2" &&
		! grep -a '^tests/.*: \(CHECK(\|got \)' "$2" | grep -aqv 'Unknown error 111'
}

one() { # ARCH PROGRAM LOG-DIR
	name=${2##*/}
	log=$3/$name.log
	case $name in
	raft_sim_test) args=${QUICK:+3} args=${args:-40} ;;
	sim_test) args="--seeds ${QUICK:+1}" args=${args:+--seeds 5} ;;
	*) args= ;;
	esac
	if timeout -k 5 "$LIMIT" $(emulator_of "$1") "$2" $args >"$log" 2>&1; then
		touch "$3/$name.ok"
	elif [ $? = 1 ] && is_emulators_fault "$1" "$log"; then
		touch "$3/$name.ok" "$3/$name.excused"
	else
		echo "$name failed:"
		tail -n 20 "$log" | cut -c1-300
	fi
}

# --- Steps. ---------------------------------------------------------------

row() { # VERDICT ARCH WHAT SECONDS NOTE
	printf '%-5s %-8s %-20s %4s %s\n' "$@"
}

# Run CMD; what it prints last is the note of its row.
step() { # ARCH WHAT CMD...
	arch=$1 what=$2 began=$(date +%s)
	shift 2
	if (failed=0 && "$@" && [ $failed = 0 ]) >step.out 2>&1; then
		verdict=ok note=$(tail -n 1 step.out)
		passed=$((passed + 1))
	else
		verdict=FAIL note=
		failures=$((failures + 1))
	fi
	row $verdict "$arch" "$what" $(($(date +%s) - began))s "$note"
	[ $verdict = ok ] || { sed 's/^/      /' step.out && tail -n 5 ./*.log; } | tail -n 60
	for f in ./*.pid; do # what a failure left running
		[ -f "$f" ] && kill -KILL "$(cat "$f")" 2>/dev/null
	done
	rm -rf ./*.pid ./*.log ./*.etcd ./*.tests
	[ $verdict = ok ]
}

skip() { # ARCH WHY
	row skip "$1" '' '' "$2"
	skipped=$((skipped + 1))
}

build() { # ARCH
	b=build/odd-$1
	case $QUICK:$1 in
	:*) targets=tests ;;
	*:arm | *:mips | *:s390x) targets=$(for t in $quick_tests; do echo "$b/tests/$t"; done) ;;
	*) targets= ;;
	esac
	# Only libc and pthreads: that it links shows that libatomic is not needed.
	make -s -C "$top" -j "$JOBS" BUILD="$b" CC="$(compiler_of "$1")" CFLAGS='-O2 -Werror' LDFLAGS=-static \
		"$b/etcd" $targets && ls -l "$(program_of "$1")" | awk '{ print int($5 / 1024) " KB" }'
}

# Tests that put calls of their own in the place of libc's, by link.mk: where a
# long has 32 bits, glibc has other names for those of wide files and times.
left_out_of() { # ARCH
	case $1 in
	arm | mips) sed -n 's|^.*/tests/\([a-z_]*\): private LINK := @.*|\1|p' "$top/tests/link.mk" | tr '\n' ' ' ;;
	esac
}

unit_tests() { # ARCH
	mkdir "$1.tests"
	left_out=$(left_out_of "$1")
	for t in "$top/build/odd-$1/tests/"*_test; do
		case " $left_out:$QUICK: $(echo $quick_tests) " in
		*" ${t##*/} "*:*:*) ;;
		*::* | *:*" ${t##*/} "*) echo "$t" ;;
		esac
	done >todo
	QUICK=$QUICK LIMIT=$LIMIT xargs -P "$JOBS" -I '{}' sh "$self" --one "$1" '{}' "$dir/$1.tests" <todo
	n=$(find "$1.tests" -name "*.ok" | grep -c .)
	[ "$n" = "$(grep -c . todo)" ] || failed=1
	excused=$(cd "$1.tests" && ls | sed -n 's/\.excused$//p' | tr '\n' ' ')
	echo "$n programs${left_out:+, without $left_out}${excused:+, but for SO_ERROR as qemu gives it: $excused}"
}

# --- Servers of any kind. --------------------------------------------------

# Make ./ARCH/etcd, which runs the program by its emulator.
wrap() { # ARCH
	mkdir -p "$1/bin"
	ln -sf "$(program_of "$1")" "$1/bin/etcdctl"
	printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$(emulator_of "$1")" "$(program_of "$1")" >"$1/etcd"
	chmod +x "$1/etcd"
}

ctl() { # ARCH PORT ARGS...
	ctl=$dir/$1/bin/etcdctl emulator=$(emulator_of "$1") port=$2
	shift 2
	$emulator "$ctl" --endpoints "http://127.0.0.1:$port" "$@"
}

node() { # ARCH NAME CLIENT-PORT PEER-PORT CLUSTER [FLAGS...]
	ETCD=$dir/$1/etcd name=$2 c=$3 p=$4 cluster=$5
	shift 5
	start "$name" --data-dir "$dir/$name.etcd" --listen-client-urls "http://127.0.0.1:$c" \
		--advertise-client-urls "http://127.0.0.1:$c" --listen-peer-urls "http://127.0.0.1:$p" \
		--initial-advertise-peer-urls "http://127.0.0.1:$p" --initial-cluster "$cluster" "$@"
}

put() { # PORT KEY FORM...: tried again while there is no leader
	url=http://127.0.0.1:$1/v2/keys/$2
	shift 2
	wait_for 30 put_once "$@"
}

put_once() {
	curl -s -m 10 -o /dev/null -w '%{http_code}' -X PUT "$url" "$@" | grep -q '^20'
}

# Everything that a member holds; only the seconds left to live may differ.
dump() { # PORT
	curl -s "http://127.0.0.1:$1/v2/keys/?recursive=true&sorted=true&quorum=true" >/dev/null
	curl -s "http://127.0.0.1:$1/v2/keys/?recursive=true&sorted=true" | sed 's/"ttl":[0-9]*/"ttl":0/g'
	curl -s "http://127.0.0.1:$1/v2/members"
}

same() { # PORT1 PORT2
	dump "$1" >dump.1
	dump "$2" >dump.2
	cmp dump.1 dump.2
}

write_some() { # PORT PREFIX N
	i=0
	while [ $i -lt "$3" ]; do
		put "$1" "$2/k$i" -d "value=$2 $i é" || return 1
		i=$((i + 1))
	done
	put "$1" "$2/ttl" -d value=mortal -d ttl=3600
	put "$1" "$2/dir" -d dir=true -d ttl=7200
	curl -s -X DELETE "http://127.0.0.1:$1/v2/keys/$2/k1" >/dev/null
	curl -s -X POST "http://127.0.0.1:$1/v2/keys/$2/queue" -d value=first >/dev/null
}

# Three members, of these kinds. The second is killed, misses writes, returns.
cluster() { # ARCH1 ARCH2 ARCH3
	for a in "$@"; do wrap "$a"; done
	kinds="$1 $2 $3"
	set -- $(ports 6)
	c1=$1 c2=$2 c3=$3
	initial="n1=http://127.0.0.1:$4,n2=http://127.0.0.1:$5,n3=http://127.0.0.1:$6"
	all="$*"
	set -- $kinds
	node "$1" n1 $c1 "$(nth 4 $all)" "$initial" --snapshot-count 25
	node "$2" n2 $c2 "$(nth 5 $all)" "$initial" --snapshot-count 25
	node "$3" n3 $c3 "$(nth 6 $all)" "$initial" --snapshot-count 25
	for c in $c1 $c2 $c3; do wait_for 60 healthy "http://127.0.0.1:$c" || return 1; done
	write_some $c1 one 20
	write_some $c2 two 20
	stop n2 KILL
	write_some $c3 three 20
	node "$2" n2 $c2 "$(nth 5 $all)" "$initial" --snapshot-count 25
	wait_for 60 healthy "http://127.0.0.1:$c2"
	wait_for 30 same $c1 $c2
	wait_for 30 same $c1 $c3
	check "two 19 é" ctl "$1" $c2 get two/k19
	ctl "$2" $c1 cluster-health | grep 'cluster is healthy' || failed=1
	check 3 n_of '"peerURLs"'
	for n in n1 n2 n3; do stop $n; done
	echo "$(n_of '"key"') nodes alike on three members"
}

n_of() {
	grep -o "$1" dump.1 | grep -c .
}

nth() {
	shift "$1"
	echo "$1"
}

# A data directory goes from ARCH1 to ARCH2 and back: a snapshot, segments of
# the log, a change of membership, and a log that ends by a kill.
exchange() { # ARCH1 ARCH2
	wrap "$1"
	wrap "$2"
	one=$1 two=$2
	set -- $(ports 2)
	initial=n=http://127.0.0.1:$2
	node "$one" n "$@" "$initial" --snapshot-count 30
	wait_for 60 healthy "http://127.0.0.1:$1" || return 1
	write_some "$1" one 40
	fill_segment "$1" one
	ctl "$one" "$1" member update "$(member_id "$1")" "http://localhost:$2" || failed=1
	put "$1" last -d value=before-the-kill
	wait_for 10 has_snapshot
	hand_over "$1" KILL "$two" "$@" "$initial" || return 1
	write_some "$1" two 40
	fill_segment "$1" two
	hand_over "$1" TERM "$one" "$@" "$initial" || return 1
	stop n
	set -- n.etcd/member/wal/*.wal
	echo "$(n_of '"key"') nodes, $# segments, there and back"
}

has_snapshot() {
	ls n.etcd/member/snap/*.snap
}

member_id() {
	curl -s "http://127.0.0.1:$1/v2/members" | sed 's/.*"id":"\([0-9a-f]*\)".*/\1/'
}

# More than the 64 MB of a segment, in one key; not when there is no time.
fill_segment() { # PORT PREFIX
	[ -z "$QUICK" ] || return 0
	{ printf value= && head -c 1000000 /dev/zero | tr '\0' x; } >big.form
	i=0
	while [ $i -lt 70 ]; do
		put "$1" "$2/big" -d @big.form
		i=$((i + 1))
	done
}

# Stop n by a signal, start it as another machine: it must hold the same.
hand_over() { # PORT SIGNAL ARCH PORTS CLUSTER
	dump "$1" >dump.1
	stop n "$2"
	port=$1
	shift 2
	kind=$1
	shift
	node "$kind" n "$@" --snapshot-count 30
	wait_for 60 healthy "http://127.0.0.1:$port" || return 1
	dump "$port" >dump.2
	cmp dump.1 dump.2 || failed=1
	check 1 grep -c before-the-kill dump.2
}

# --- All of it. -------------------------------------------------------------

if [ "${1:-}" = --one ]; then
	one "$2" "$3" "$4"
	exit 0
fi
[ $# -gt 0 ] || set -- arm aarch64 mips riscv64 s390x musl
curl --version >/dev/null || exit 1
[ -x "$top/$BUILD/tests/freeport" ] && [ -x "$top/etcd" ] || { echo "run \`make all tests\` first"; exit 1; }

row '' machine what time ''
works=
for a in "$@"; do
	if ! command -v "$(compiler_of "$a")" >/dev/null; then
		skip "$a" "no $(compiler_of "$a")"
	elif [ "$a" != musl ] && [ -z "$(emulator_of "$a")" ]; then
		skip "$a" "no qemu-$a"
	else
		step "$a" build build "$a" && works="$works $a"
	fi
done
for a in $works; do
	case $QUICK:$a in
	:* | *:arm | *:mips | *:s390x) step "$a" 'unit tests' unit_tests "$a" ;;
	esac
	case $QUICK:$a in
	:* | *:arm | *:mips) step "$a" 'three members' cluster "$a" "$a" "$a" ;;
	esac
	case $QUICK:$a in
	:*)
		step "$a" 'data directory to' exchange native "$a"
		step "$a" 'data directory from' exchange "$a" native
		;;
	*:mips | *:s390x) step "$a" 'data directory to' exchange native "$a" ;;
	esac
done
case "$works " in
*" arm "*" s390x "*) step mixed 'native, s390x, arm' cluster native s390x arm ;;
*" s390x "*" arm "*) step mixed 'native, s390x, arm' cluster native s390x arm ;;
*) skip mixed "s390x and arm are not both there" ;;
esac
[ $skipped = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failures failed"
[ $failures = 0 ]
