#!/bin/sh
# Run all tests, or those named on the command line, a few at a time; the last
# line is `N passed, N failed`. BUILD is the folder of the compiled ones.
#
#   make test            BUILD=build/cc sh tests/run.sh wal_test seed_test
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build/cc}
# They wait more than they work, but for what sanitizers add.
cores=$(nproc 2>/dev/null || echo 2)
JOBS=${JOBS:-$([ "${SAN:-}" ] && echo "$cores" || echo $((cores + 1)))}
LIMIT=${LIMIT:-$([ "${SAN:-}" ] && echo 900 || echo 300)} # seconds for one test
tmp=$(mktemp -d "${TMPDIR:-/tmp}/etcd-tests.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP
TMPDIR=$tmp # what a test leaves that is killed goes with all the rest
export BUILD LIMIT TMPDIR tmp
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}"

[ $# -gt 0 ] || set -- $(ls tests/*_test.c tests/*_test.sh 2>/dev/null |
	sed 's|.*/||; s|\.c$||; s|\.sh$||' | sort -u)

# Long ones first, so that the end is not one test on one core.
length() {
	case $1 in
	sim_test | disaster_test | fail_test | hostile_test | tls_interop_test | tls_server_test) echo "1 $1" ;;
	*) [ -f "tests/$1.sh" ] && echo "2 $1" || echo "3 $1" ;;
	esac
}
for t in "$@"; do
	length "$t"
done | sort -s -n -k 1,1 | sed 's/^. //' >"$tmp/todo"

xargs -P "$JOBS" -n 1 sh -c '
	t=$1
	if [ -f "tests/$t.sh" ]; then run="sh tests/$t.sh"; else run="$BUILD/tests/$t"; fi
	if timeout -k 10 "$LIMIT" $run >"$tmp/$t.log" 2>&1; then
		echo "ok   $t"
		touch "$tmp/$t.passed"
	else
		echo "FAIL $t (status $?)"
		# What it says itself, then the logs of its servers (finish in lib.sh).
		sed "/^--- .*\.log$/,\$d; s/^/   | /" "$tmp/$t.log" | tail -n 30
		sed -n "/^--- .*\.log$/,\$ s/^/     /p" "$tmp/$t.log" | tail -n 60
	fi' sh <"$tmp/todo"

all=$#
passed=0
for t in "$@"; do
	[ -f "$tmp/$t.passed" ] && passed=$((passed + 1))
done
echo "$passed passed, $((all - passed)) failed"
[ "$passed" -eq "$all" ]
