#!/bin/sh
# Does the simulator find bugs? Each patch in tests/planted plants one in a
# scratch copy; sim_test must fail there. Prints a table: the bug, the seed that
# caught it, after how many seeds and seconds, and what did not hold. A patch
# with a line "Test: NAME" is for another test: what the simulator cannot see.
#
#   sh tests/planted.sh [NAME...]       SEEDS=1000 BUILD=build/cc
#
# Fails if a bug goes unnoticed, or if sim_test fails without one.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-build/cc}
SEEDS=${SEEDS:-1000}
make "$BUILD/tests/sim_test" >/dev/null || exit 1
tmp=$(mktemp -d "${TMPDIR:-/tmp}/etcd-planted.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM HUP

# Objects come along, with their times, so that only what changed is compiled.
mkdir -p "$tmp/tree/$BUILD" || exit 1
cp -a Makefile ./*.c ./*.h tests "$tmp/tree/" || exit 1
cp -a "$BUILD"/*.o "$BUILD"/*.d "$BUILD/tests" "$tmp/tree/$BUILD/" || exit 1

apply() { # [-R] patch
	(cd "$tmp/tree" && patch -s -p1 "$@" >/dev/null)
}

run_test() { # [NAME]
	if [ -z "$1" ]; then
		"$tmp/tree/$BUILD/tests/sim_test" --seeds "$SEEDS"
	elif ! (cd "$tmp/tree" && "$BUILD/tests/$1"); then
		echo "$1 failed"
	fi
}

# One planted bug; the result is a line of the table.
plant() {
	name=$(basename "$1" .patch)
	patch=$PWD/$1
	test=$(sed -n 's/^Test: //p' "$1")
	if ! apply --dry-run -i "$patch"; then
		echo "| $name | - | - | - | THE PATCH DOES NOT FIT ITS FILE ANY MORE |"
		return 1
	fi
	apply -i "$patch" || return 1
	if (cd "$tmp/tree" && make "$BUILD/tests/${test:-sim_test}" >"$tmp/log" 2>&1); then
		run_test "$test" >"$tmp/log" 2>&1
	else
		cat "$tmp/log"
		return 1
	fi
	apply -R -i "$patch" || return 1
	# The patched file is older than its object now: let it be compiled.
	sed -n 's|^+++ b/||p' "$patch" | while read -r f; do
		touch "$tmp/tree/$f"
	done
	why=$(sed -n 's/^seed \([0-9]*\) FAILED: \(.*\)/\1 | \2/p' "$tmp/log" |
		cut -c 1-100 | head -n 1)
	[ -z "$test" ] || why=$(sed -n "s/^$test failed\$/- | $test fails/p" "$tmp/log")
	cost=$(sed -n 's/^sim_test: \([0-9]*\) seeds from [0-9]*, \(.*\) s$/\1 | \2/p' \
		"$tmp/log")
	if [ -n "$why" ]; then
		echo "| $name | ${cost:-- | -} | $why |"
	else
		echo "| $name | ${cost:-- | -} | - | NOT FOUND |"
		return 1
	fi
}

[ $# -gt 0 ] || set -- tests/planted/*.patch
echo "| bug | seeds | seconds | caught by seed | what did not hold |"
echo "| --- | ---: | ---: | ---: | --- |"
missed=0
for p in "$@"; do
	[ -f "$p" ] || p=tests/planted/$p.patch
	plant "$p" || missed=$((missed + 1))
done
echo "$# planted, $missed not found"
[ "$missed" -eq 0 ]
