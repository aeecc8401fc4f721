# shellcheck shell=sh
# lib.sh - what the shell tests share: a fresh folder, free ports, servers that
# are gone when the test is, and waiting for conditions instead of sleeping.
#
#   start NAME ARGS...    run ./etcd in the background; its pid is in $NAME.pid
#   stop NAME [SIGNAL]    signal it and wait for its end
#   wait_for SECONDS CMD  until CMD succeeds
#   check TEXT CMD...     count a check; the output must be exactly TEXT
#   refused TEXT CMD...   it fails, and the output has TEXT
set -u
top=${TOP:-$(cd "$(dirname "$0")/.." && pwd)}
ETCD=${ETCD:-$top/etcd}
CTL=${CTL:-$top/etcdctl}
BUILD=${BUILD:-build/cc}
dir=$(mktemp -d "${TMPDIR:-/tmp}/etcd-test.XXXXXX") || exit 1
cd "$dir" || exit 1
failed=0
unset ETCDCTL_API ETCDCTL_ENDPOINTS ETCDCTL_ENDPOINT ETCDCTL_PEERS

cleanup() {
	for f in "$dir"/*.pid; do
		[ -f "$f" ] && kill "-${END:-KILL}" "$(cat "$f")" 2>/dev/null
	done
	wait 2>/dev/null
	cd /
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

ports() {
	"$top/$BUILD/tests/freeport" "$@" | tr '\n' ' '
}

start() {
	name=$1
	shift
	"$ETCD" --name "$name" "$@" >>"$dir/$name.log" 2>&1 &
	echo $! >"$dir/$name.pid"
}

stop() {
	pid=$(cat "$dir/$1.pid")
	kill "-${2:-TERM}" "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	status=$?
	rm -f "$dir/$1.pid"
	return $status
}

wait_for() {
	tries=$(($1 * 20))
	shift
	until "$@" >/dev/null 2>&1; do
		tries=$((tries - 1))
		if [ $tries -le 0 ]; then
			echo "timed out waiting for: $*"
			failed=1
			return 1
		fi
		sleep 0.05
	done
}

healthy() { # URL
	curl -s -m 2 "$1/health" | grep -q '"health" *: *"true"'
}

check() {
	want=$1
	shift
	got=$("$@" 2>&1)
	if [ "$got" != "$want" ]; then
		printf 'FAIL: %s\n  want: %s\n  got:  %s\n' "$*" "$want" "$got"
		failed=1
	fi
}

refused() {
	text=$1
	shift
	if out=$("$@" 2>&1); then
		echo "not refused: $*"
		failed=1
	fi
	case $out in
	*"$text"*) ;;
	*)
		echo "want $text"
		echo "got  $out"
		failed=1
		;;
	esac
}

finish() {
	if [ $failed -ne 0 ]; then
		for f in "$dir"/*.log; do
			[ -f "$f" ] && echo "--- ${f##*/}" && tail -n 15 "$f"
		done
	fi
	exit $failed
}
