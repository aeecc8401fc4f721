# shellcheck shell=sh
# lib.sh - what the tests with other people's clients and servers share, on top
# of tests/lib.sh.
#
#   serve NAME PROGRAM DATA-DIR OPTIONS...   a single member on $client and $peer; healthy on return
#   ok NAME CMD...                           one check: the command succeeds
#   same NAME WANT-FILE GOT-FILE             one check: the files are equal
#   finish                                   prints the sums; fails if a check did
#
# REAL_ETCD and REAL_CTL are a real etcd 3.4 and its etcdctl.
TOP=$(cd "$(dirname "$0")/../.." && pwd)
. "$TOP/tests/lib.sh"
REAL_ETCD=${REAL_ETCD:-/usr/bin/etcd}
REAL_CTL=${REAL_CTL:-/usr/bin/etcdctl}
export ETCDCTL_API=3
[ -x "$REAL_ETCD" ] && [ -x "$REAL_CTL" ] || { echo "no real etcd at $REAL_ETCD and $REAL_CTL"; exit 1; }
passed=0 lost=0
# shellcheck disable=SC2046
set -- $(ports 4)
client=http://127.0.0.1:$1
peer=http://127.0.0.1:$2
export client2=http://127.0.0.1:$3
export peer2=http://127.0.0.1:$4
# A member id that begins with a zero shows which ids are padded, and with what.
cluster_token=0
until printf %s "$peer$cluster_token" | sha1sum | grep -q '^0[1-9a-f]'; do
	cluster_token=$((cluster_token + 1))
done

serve() {
	serve_name=$1 ETCD=$2 serve_dir=$3
	shift 3
	start "$serve_name" --data-dir "$serve_dir" --listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "$serve_name=$peer" \
		--initial-cluster-token $cluster_token "$@"
	wait_for 10 healthy "$client"
	wait_for 10 sh -c "curl -s $client/version | grep -q 'etcdcluster\":\"3.4'"
}

pass() {
	passed=$((passed + 1))
}

lose() { # TEXT
	echo "FAIL: $1"
	lost=$((lost + 1))
	failed=1
}

ok() {
	ok_name=$1
	shift
	if "$@" >"$dir/ok.out" 2>&1; then
		pass
	else
		lose "$ok_name"
		sed 's/^/  /' "$dir/ok.out" | head -n 20
	fi
}

same() {
	if diff -u "$2" "$3" >"$dir/same.out" 2>&1; then
		pass
	else
		lose "$1"
		sed 1,2d "$dir/same.out" | cut -c1-300 | head -n 40
	fi
}

finish() {
	[ $failed -eq 0 ] || for f in "$dir"/*.log; do
		[ -f "$f" ] && echo "--- ${f##*/}" && tail -n 15 "$f"
	done
	echo "$passed passed, $lost failed"
	exit $failed
}
