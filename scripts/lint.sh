#!/bin/sh
# Static checks beyond the compilers' warnings: gcc and clang with all of the
# Makefile's warnings as errors, the layering of includes, cppcheck, shellcheck
# and clang-tidy with the sets below. Silent when there is nothing to say; a
# tool that is not installed is left out. NO_TIDY=1 leaves out the longest.
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=$(nproc 2>/dev/null || echo 2)
export flags="-std=c11 -D_GNU_SOURCE -pthread -I."
export warn="-Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wvla -Werror"
failed=0

# gcc finds some of its warnings only while it optimizes; clang needs no code.
compile="gcc $flags $warn -O2 -c -o /dev/null"
command -v gcc >/dev/null || compile=:
syntax="clang $flags $warn -fsyntax-only"
command -v clang >/dev/null || syntax=:
export compile syntax
printf '%s\n' *.c tests/*.c tests/chaos/*.c tests/fuzz/*.c |
	xargs -P "$jobs" -n 1 sh -c '$compile "$1" && $syntax "$1"' sh || failed=1

# An include points to a lower floor, or sideways (ARCHITECTURE.md). A new
# module is entered here first; wildcards stand for a module in several files.
floor() {
	case $1 in
	buf | log | sys | ways) echo 0 ;;
	json | yaml | url | pb | raftpb | etcdpb | msg* | rpcpb | crypto | hash | aead* | curve25519) echo 1 ;;
	bignum | ec | rsa | pk | der | pem | x509* | tls*) echo 1 ;;
	net* | dns | secure | nosecure | http* | websocket | hpack* | grpc | grpcclient | grpcconn | client | metrics) echo 2 ;;
	raft* | progress | wal* | snap | config | flags) echo 3 ;;
	store | storesnap | trie | event | hub) echo 3 ;;
	mvcc* | kvtree | watch* | bolt* | backend*) echo 3 ;;
	lease | auth | auth_impl | authperm | authtoken | jwt*) echo 3 ;;
	v3 | v3apply | v3convert | v3error | compactor) echo 3 ;;
	v3server | v3sweep | v3lead | v3disk | v3who | v3corrupt | reads) echo 4 ;;
	server* | propose | checkpoint | reconf | boot* | cluster | peer* | discovery) echo 4 ;;
	v2* | v3* | rpc* | grpcserver | gateway | admin) echo 5 ;;
	etcd | etcdctl | etcdutl | ctl*) echo 6 ;;
	*) return 1 ;;
	esac
}
for f in *.c *.h; do
	mine=$(floor "${f%.*}") || { echo "$f is on no floor: enter it in $0"; failed=1; continue; }
	sed -n 's/^#include "\(.*\)\.h".*/\1/p' "$f" | while read -r h; do
		theirs=$(floor "$h") || continue
		[ "$theirs" -le "$mine" ] || echo "$f (floor $mine) includes $h.h (floor $theirs)"
	done | grep . && failed=1
done
# Sideways without a cycle, as far as headers go.
for f in *.h; do
	sed -n "s/^#include \"\(.*\)\".*/$f \1/p" "$f"
done | tsort >/dev/null || failed=1

if command -v cppcheck >/dev/null; then
	cppcheck --std=c11 --enable=warning,performance,portability --inline-suppr --quiet --error-exitcode=1 \
		--suppress=missingIncludeSystem -D_GNU_SOURCE -D__linux__ -I. ./*.c || failed=1
fi

# SC2046: `set -- $(ports 2)` is meant to split.
if command -v shellcheck >/dev/null; then
	shellcheck -x -P SCRIPTDIR -S warning -e SC2046 \
		tests/*.sh tests/interop/*.sh scripts/*.sh examples/*.sh scripts/init/S80etcd .ci/run || failed=1
fi

checks='-*,bugprone-*,cert-*,clang-analyzer-*,concurrency-*,misc-redundant-expression,misc-unused-parameters,performance-*,portability-*'
off() { # CHECK... leave these out
	for check in "$@"; do
		checks=$checks,-$check
	done
}
# Opinions: parameters of one type in a row, names with underscores that libc
# asks for, an assignment in a condition, equal branches for distinct cases.
off bugprone-easily-swappable-parameters bugprone-reserved-identifier cert-dcl37-c cert-dcl51-cpp \
	bugprone-assignment-in-if-condition bugprone-branch-clone
# Numbers: widths are mixed wherever a wire format is; -Wconversion's ground.
off bugprone-narrowing-conversions bugprone-implicit-widening-of-multiplication-result
# C's idioms: xcalloc(n, sizeof(*list)) where list holds pointers, bytes with a
# length instead of a NUL, memcpy and snprintf without Annex K, ids as void *.
off bugprone-sizeof-expression bugprone-not-null-terminated-result performance-no-int-to-ptr \
	clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling
# Results that nobody wants: of snprintf() into a field made for it, of printf().
off cert-err33-c
# getenv() and strerror() count as unsafe in threads. The environment changes
# only before there are any; glibc's and musl's strerror() are safe.
off concurrency-mt-unsafe
export checks

# Largest first, so that the end is not one file on one core; the analyzer may
# follow half as many paths as by default, for time. buf.c defines what tidy.h
# models.
if command -v clang-tidy >/dev/null && [ -z "${NO_TIDY:-}" ]; then
	wc -c ./*.c | sort -rn | sed '1d; s/.* //' | xargs -P "$jobs" -n 1 sh -c '
		model="-include scripts/tidy.h -Xclang -analyzer-config -Xclang max-nodes=100000"
		[ "$1" != ./buf.c ] || model=
		clang-tidy --quiet --warnings-as-errors="*" --checks="$checks" "$1" -- $flags $model 2>/dev/null' sh || failed=1
fi
exit $failed
