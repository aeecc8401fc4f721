#!/bin/sh
# Odd machines: cross builds, run under qemu-user. For each architecture: a
# static build without a warning, the unit tests, three members that lose one
# and take it back, and data directories that are written on one machine and
# opened on another; then a cluster of members of three kinds, plain and with TLS.
# Keys of v2 and v3, leases, users and roles must be the same everywhere.
#
#   scripts/odd.sh [ARCH...]     arm aarch64 mips riscv64 s390x musl
#   QUICK=1 scripts/odd.sh       in a few minutes: all builds, some of the rest
#
# Debian's packages: gcc-arm-linux-gnueabihf gcc-aarch64-linux-gnu
# gcc-mips-linux-gnu gcc-riscv64-linux-gnu gcc-s390x-linux-gnu qemu-user
# musl-tools; and openssl. What is not installed is skipped. `make all tests`
# comes first.
. "$(dirname "$0")/../tests/lib.sh"
self=$top/scripts/odd.sh
QUICK=${QUICK:-}
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}
LIMIT=${LIMIT:-300} # seconds for one test program
quick_tests='aead_test auth_test backend_test bignum_test bolt_test crypto_test curve25519_test der_test ec_test grpc_test
	grpcserver_test hash_test hpack_test http2_test json_test jwt_test lease_test msg_test mvcc_test nettls_test pb_test
	peer_test pk_test raft_sim_test raft_test raftpb_test rpcpb_test rsa_test snap_test store_test trie_test v3_test
	v3server_test wal_test watch_test'
quick_on_mips='tls_test x509_test' # long; this machine has 32 bits and is big-endian
passed=0 failures=0 skipped=0
scheme=http tls_client='' tls_member='' # of servers and their clients

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

quick_tests_of() { # ARCH
	echo $quick_tests
	if [ "$1" = mips ]; then echo "$quick_on_mips"; fi
}

build() { # ARCH
	b=build/odd-$1
	case $QUICK:$1 in
	:*) targets=tests ;;
	*:arm | *:mips | *:s390x) targets=$(for t in $(quick_tests_of "$1"); do echo "$b/tests/$t"; done) ;;
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
		case " $left_out:$QUICK: $(quick_tests_of "$1" | tr '\n' ' ') " in
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

# The native one, of v3.
ctl3() { # PORT ARGS...
	port=$1
	shift
	ETCDCTL_API=3 "$CTL" --endpoints "$scheme://127.0.0.1:$port" --command-timeout 30s --dial-timeout 30s \
		$tls_client "$@"
}

node() { # ARCH NAME CLIENT-PORT PEER-PORT CLUSTER [FLAGS...]
	ETCD=$dir/$1/etcd name=$2 c=$3 p=$4 cluster=$5
	shift 5
	start "$name" --data-dir "$dir/$name.etcd" --listen-client-urls "$scheme://127.0.0.1:$c" \
		--advertise-client-urls "$scheme://127.0.0.1:$c" --listen-peer-urls "$scheme://127.0.0.1:$p" \
		--initial-advertise-peer-urls "$scheme://127.0.0.1:$p" --initial-cluster "$cluster" $tls_member "$@"
}

put() { # PORT KEY FORM...: tried again while there is no leader
	url=http://127.0.0.1:$1/v2/keys/$2
	shift 2
	wait_for 30 put_once "$@"
}

put_once() {
	curl -s -m 10 -o /dev/null -w '%{http_code}' -X PUT "$url" "$@" | grep -q '^20'
}

# The gateway's own answer, without what says who gave it, and when.
ask3() { # PORT METHOD BODY
	curl -s "http://127.0.0.1:$1/v3/$2" -d "$3" | sed 's/"header":{[^}]*},\{0,1\}//'
	echo
}

# Everything of v3 that a member holds itself: all versions by their hash.
dump_v3() { # PORT
	ask3 "$1" maintenance/hashkv '{}'
	ask3 "$1" kv/range '{"key":"AA==","range_end":"AA==","serializable":true}'
	for i in $(ctl3 "$1" lease list | sed -n 's/^[0-9a-f]*$/&/p' | sort); do
		ctl3 "$1" lease timetolive "$i" --keys | sed 's/remaining([^)]*)//'
	done
	for i in $(ctl3 "$1" user list); do ctl3 "$1" user get "$i" --detail; done
}

# Everything that a member holds; only the seconds left to live may differ.
dump() { # PORT
	dump_v3 "$1"
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
	write_v3 "$1" "$2" >/dev/null || failed=1
}

# Keys with history, some of it compacted; a lease, a transaction, a user.
write_v3() { # PORT PREFIX
	for i in 1 2 3; do
		for k in a b c d; do ctl3 "$1" put "$2/$k" "$2 $i é" || return 1; done
	done
	revision=$(ctl3 "$1" get "$2/a" -w fields | sed -n 's/^"ModRevision" : //p')
	ctl3 "$1" compaction $((revision - 2)) || return 1
	ctl3 "$1" del "$2/b" || return 1
	lease=$(ctl3 "$1" lease grant 7200 | sed 's/^lease \([0-9a-f]*\).*/\1/')
	ctl3 "$1" put "$2/mortal" v --lease="$lease" || return 1
	printf 'version("%s/a") = "3"\n\nput %s/txn yes\n\nput %s/txn no\n\n' "$2" "$2" "$2" | ctl3 "$1" txn || return 1
	ctl3 "$1" role add "$2-reader" || return 1
	ctl3 "$1" role grant-permission "$2-reader" --prefix=true read "$2/" || return 1
	ctl3 "$1" user add "$2:secret" && ctl3 "$1" user grant-role "$2" "$2-reader"
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
	check "three 3 é" ctl "$2" $c1 get three/c --print-value-only
	check yes ctl3 $c3 get three/txn --print-value-only
	for n in n1 n2 n3; do stop $n; done
	echo "$(n_of '"key"') nodes alike on three members"
}

# Three members, of these kinds, with TLS everywhere: real clients get in by
# certificate, with each version and kind of cipher, and nobody without.
tls_cluster() { # ARCH1 ARCH2 ARCH3
	# shellcheck source=tests/certs.sh
	. "$top/tests/certs.sh"
	for a in "$@"; do wrap "$a"; done
	authority ca
	leaf member ca 30 "$here"
	leaf alice ca 30 ""
	leaf rsa ca 30 "$here" rsa rsa:2048
	kinds="$1 $2 $3"
	set -- $(ports 6)
	scheme=https tls_client='--cacert ca.pem --cert alice.pem --key alice.key'
	initial="n1=https://127.0.0.1:$4,n2=https://127.0.0.1:$5,n3=https://127.0.0.1:$6"
	i=0
	for a in $kinds; do
		i=$((i + 1))
		[ $i = 2 ] && cert=rsa || cert=member
		tls_member=$(secure_flags $cert)
		node "$a" "n$i" "$(nth $i "$@")" "$(nth $((i + 3)) "$@")" "$initial" --heartbeat-interval 300 --election-timeout 3000
	done
	for c in "$1" "$2" "$3"; do wait_for 60 tls_healthy "$c" || return 1; done
	for c in "$1" "$2" "$3"; do
		ciphers "$c" || return 1
		wait_for 30 ctl3 "$c" put "by$c" v || return 1
		! curl -s -m 20 --cacert ca.pem "https://127.0.0.1:$c/version" || failed=1
	done
	for c in "$1" "$2" "$3"; do
		[ "$(ctl3 "$c" get by --prefix --print-value-only | grep -c v)" = 3 ] || failed=1
	done
	for n in n1 n2 n3; do stop $n; done
	echo "$n_shaken handshakes of openssl with three members"
}

secure_flags() { # CERTIFICATE
	echo "--cert-file $1.pem --key-file $1.key --trusted-ca-file ca.pem --client-cert-auth" \
		"--peer-cert-file $1.pem --peer-key-file $1.key --peer-trusted-ca-file ca.pem --peer-client-cert-auth"
}

tls_healthy() { # PORT
	curl -s -m 5 --cacert ca.pem --cert alice.pem --key alice.key "https://127.0.0.1:$1/health" | grep '"true"'
}

n_shaken=0
ciphers() { # PORT
	for how in '-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256 -groups P-384' '-tls1_3 -ciphersuites TLS_AES_256_GCM_SHA384 -groups P-256' \
		'-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256 -groups X25519' '-tls1_2 -cipher ECDHE+AESGCM' \
		'-tls1_2 -cipher ECDHE+CHACHA20'; do
		printf 'GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' |
			timeout 30 openssl s_client -connect "127.0.0.1:$1" -CAfile ca.pem -verify_ip 127.0.0.1 -verify_return_error \
				-cert alice.pem -key alice.key -ign_eof -quiet $how 2>s_client.log | grep -q '"etcdserver"' ||
			{ echo "port $1: $how: $(cat s_client.log)"; return 1; }
		n_shaken=$((n_shaken + 1))
	done
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

all_work() { # ARCH...
	for a in "$@"; do
		case "$works " in
		*" $a "*) ;;
		*) skip mixed "without $a" && return 1 ;;
		esac
	done
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
if all_work arm s390x; then step mixed 'native, s390x, arm' cluster native s390x arm; fi
if all_work arm mips s390x; then step mixed 'TLS: arm, mips, s390x' tls_cluster arm mips s390x; fi
[ $skipped = 0 ] || echo "$skipped skipped"
echo "$passed passed, $failures failed"
[ $failures = 0 ]
