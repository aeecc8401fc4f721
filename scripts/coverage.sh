#!/bin/sh
# What the tests run of the modules whose bugs would lose or invent data. Builds
# with gcc --coverage in a folder of its own, runs the tests and prints lines and
# branches by module; fails where less than 90 % of the lines or 80 % of the
# branches are run. docs/coverage.md says what the rest is.
#
#   scripts/coverage.sh                 all tests but those of TLS, then the table
#   scripts/coverage.sh raft_test ...   only these tests
#   scripts/coverage.sh wal.c ...       no run: what the last one did not reach
#
# A branch is one way out of a condition, short circuits included, as gcc -O0
# lays them out. Those of assert() do not count: the way out of a broken
# invariant is not meant to be taken. kill -9 loses what its victim counted.
set -u
cd "$(dirname "$0")/.." || exit 1
build=build/coverage
GCOV=${GCOV:-gcov}
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}

groups='raft raftlead raftconf raftready raftlog progress raftpb
wal walrecord walsegment waltorn walscan walreplay walinspect
snap
store trie event hub storesnap
http httpin httpparse
json'

# Of each line that is code "run|dead:NUMBER:TEXT", and behind it of each of its
# branches "branch N taken|missed". A test that includes the module counts, too.
counts() { # MODULE...
	for module in "$@"; do
		{
			$GCOV -t -b -c -o $build "$build/$module.gcno"
			for test in $(grep -ls "^#include \"\.\./$module\.c\"" tests/*.c); do
				$GCOV -t -b -c -o $build/tests "$build/${test%.c}.gcno"
			done
		} 2>/dev/null | awk -v want="$module.c" '
			/^ *-: +0:Source:/ {
				sub(/.*[:\/]/, "")
				mine = $0 == want
				next
			}
			!mine || /^(function|call|unconditional) / || /^ *-: +0:/ { next }
			/^branch / {
				if (!asserting && branches[line] < ++nth)
					branches[line] = nth
				if (/taken [1-9]/)
					taken[line, nth] = 1
				next
			}
			{
				split($0, column, ":")
				line = column[2] + 0
				nth = 0
				if (line > last)
					last = line
				rest = substr($0, length(column[1]) + length(column[2]) + 3)
				if (column[1] !~ /-/)
					text[line] = rest
				if (column[1] ~ /[0-9]/)
					run[line] = 1
				asserting = depth > 0
				if (!depth && match(rest, /(^|[^a-z_])assert\(/)) {
					asserting = 1
					rest = substr(rest, RSTART)
				}
				if (asserting)
					depth += gsub(/\(/, "", rest) - gsub(/\)/, "", rest)
			}
			END {
				for (line = 1; line <= last; line++) {
					if (line in text)
						print (line in run ? "run:" : "dead:") line ":" text[line]
					for (nth = 1; nth <= branches[line]; nth++)
						print "branch", nth, ((line, nth) in taken ? "taken" : "missed")
				}
			}'
	done
}

table() {
	printf '%-6s %23s %25s\n' module lines branches
	echo "$groups" | while read -r modules; do
		# shellcheck disable=SC2086 # a group is several modules
		counts $modules | awk -v name="${modules%% *}" '
			/^branch / { branches++; taken += /taken$/; next }
			{ lines++; run += /^run:/ }
			function share(n, of) { return of ? 100 * n / of : 0 }
			END {
				printf "%-6s %5d of %5d  %5.1f %%   %5d of %5d  %5.1f %%\n", name,
					run, lines, share(run, lines), taken, branches, share(taken, branches)
				exit share(run, lines) < 90 || share(taken, branches) < 80
			}' || touch $build/below
	done
	[ ! -e $build/below ]
}

# Lines never run, and lines that are run but never one of their ways.
missing() { # FILE.c
	counts "${1%.c}" | awk -v file="$1" '
		function flush() {
			if (missed)
				print file ":" line "   (branch" missed " of " nth ")"
			missed = ""
		}
		/^branch / {
			nth = $2
			if (/missed$/ && is_run)
				missed = missed " " nth
			next
		}
		{
			flush()
			is_run = /^run:/
			line = $0
			sub(/^[^:]*:/, "", line)
			if (!is_run)
				print file ":" line "   (not run)"
		}
		END { flush() }'
}

case ${1:-} in
*.c)
	for file in "$@"; do
		missing "${file##*/}"
	done
	exit
	;;
esac

set -e
mkdir -p $build
# Without WIDE, for gcov's own library calls open(), not open64(): a test that
# replaces one must have the other too.
make -s -j"$jobs" BUILD=$build CC=gcc WIDE= CFLAGS="-O0 -g --coverage -fprofile-update=atomic" $build/etcd tests
ln -f $build/etcd $build/etcdctl
find $build \( -name '*.gcda' -o -name below \) -exec rm -f {} +

[ $# -gt 0 ] || set -- $(cd tests && ls ./*_test.c ./*_test.sh | sed 's|^\./||; s|\..*||' | grep -v tls | sort -u)

# Servers that a test leaves running end in a way that writes their counts. What
# a sanitizer's build is spared this one is spared, too: it needs more memory,
# and a folder outside of any box to write to.
END=TERM SAN=coverage LIMIT=${LIMIT:-1200} BUILD=$build \
	COVERAGE=1 ETCD=$PWD/$build/etcd CTL=$PWD/$build/etcdctl sh tests/run.sh "$@" || failed=1
table || failed=1
exit "${failed:-0}"
