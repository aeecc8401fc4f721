#!/bin/sh
# Run fuzz targets, one per core at a time, each for FUZZ_SECONDS, from the seeds
# in tests/fuzz/NAME/ and with the words in tests/fuzz/NAME.dict (if any). Keeps
# what it learns in build/fuzz/corpus. A finding is kept in build/fuzz and fails
# the run; it becomes a seed once it is mended.
set -u
cd "$(dirname "$0")/.." || exit 1
jobs=${JOBS:-$(nproc 2>/dev/null || echo 2)}

one() { # TARGET
	target=$1 name=$(basename "$1" _fuzz)
	corpus=build/fuzz/corpus/$name
	log=build/fuzz/$name.log
	mkdir -p "$corpus"
	set -- "$corpus"
	[ -d "tests/fuzz/$name" ] && set -- "$@" "tests/fuzz/$name"
	[ -f "tests/fuzz/$name.dict" ] && set -- "-dict=tests/fuzz/$name.dict" "$@"
	if "$target" -max_total_time="${FUZZ_SECONDS:-20}" -rss_limit_mb=2048 -timeout=10 -max_len=65536 \
		-print_final_stats=1 -artifact_prefix="build/fuzz/$name-" "$@" >"$log" 2>&1; then
		echo "ok   fuzz $name: $(awk '/number_of_executed_units/ {print $2}' "$log") runs"
	else
		echo "FAIL fuzz $name"
		tail -n 40 "$log"
		return 1
	fi
}

if [ "${1:-}" = --one ]; then
	one "$2"
	exit
fi
printf '%s\n' "$@" | xargs -P "$jobs" -n 1 sh scripts/fuzz.sh --one
