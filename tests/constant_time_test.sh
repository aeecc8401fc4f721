#!/bin/sh
# Time does not depend on secrets: ct_test under valgrind, where there is one.
. "$(dirname "$0")/lib.sh"

# Without debug information, which not every valgrind can read of every compiler.
ct=$dir/ct_test
strip -g -o "$ct" "$top/$BUILD/tests/ct_test" || cp "$top/$BUILD/tests/ct_test" "$ct"
if ! command -v valgrind >/dev/null || [ -n "${SAN:-}" ]; then
	echo "not run: without valgrind, or in a build with sanitizers"
	exit 0
fi
valgrind -q --error-exitcode=9 "$ct" || failed=1
# It must see a branch on a secret; else it was built without valgrind's header.
valgrind -q --error-exitcode=9 "$ct" leak >/dev/null 2>&1
[ $? -eq 9 ] || { echo "a leak was not seen"; failed=1; }
exit $failed
