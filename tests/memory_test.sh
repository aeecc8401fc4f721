#!/bin/sh
# 64 MB of memory are enough for a node with 10,000 keys of 256 bytes and 500
# clients at work at the same time, checkpoints meanwhile included, by v2 and by
# gRPC; and more clients than fit must wait, not bring the node down. The limit is one of
# addresses (ulimit -v), which is harder to keep than one of used memory.
#
#   ETCD=build/gcc-static/etcd sh tests/memory_test.sh
. "$(dirname "$0")/lib.sh"
limit_kb=65536
clients=500
keys=10000
load=$top/$BUILD/tests/loadtool
bench=$top/$BUILD/tests/benchv3

if [ -n "${SAN:-}" ]; then
	echo "skipped: the sanitizers take terabytes of addresses"
	exit 0
fi
case $ETCD in
/*) real=$ETCD ;;
*) real=$top/$ETCD ;;
esac
ETCD=$dir/limited
printf '#!/bin/sh\nulimit -v %s\nexec "%s" "$@"\n' $limit_kb "$real" >"$ETCD"
chmod +x "$ETCD"

set -- $(ports 2)
c=$1 p=$2

node() { # DATA-DIR
	start m --data-dir "$dir/$1" --listen-client-urls "http://127.0.0.1:$c" --advertise-client-urls "http://127.0.0.1:$c" \
		--listen-peer-urls "http://127.0.0.1:$p" --initial-advertise-peer-urls "http://127.0.0.1:$p" \
		--initial-cluster "m=http://127.0.0.1:$p" --snapshot-count 5000
	wait_for 10 healthy "http://127.0.0.1:$c"
}

memory() { # WHEN
	[ -r "/proc/$(cat m.pid)/status" ] || return
	awk -v when="$1" '/^(VmPeak|VmHWM)/ { line = line " " $1 " " $2 " kB" } END { print when ":" line }' "/proc/$(cat m.pid)/status"
}

n_keys() {
	curl -s "http://127.0.0.1:$c/v2/keys/many" | grep -o '"key":"/many/k' | grep -c .
}

has_snapshot() {
	ls m/member/snap/*.snap
}
n_v3_keys() {
	curl -s "http://127.0.0.1:$c/v3/kv/range" -d '{"key":"AA==","range_end":"AA==","count_only":true}' |
		sed 's/.*"count":"\([0-9]*\)".*/\1/'
}

node m
memory "after the start"
"$load" clients $clients $keys 1 "127.0.0.1:$c" || failed=1
check $keys n_keys
memory "$keys keys written and read by $clients clients"
"$load" clients $clients $keys 1 "127.0.0.1:$c" || failed=1
wait_for 10 has_snapshot
memory "once more, and snapshots"

# Three times as many: those without room wait; the node lives on.
"$load" clients 1500 $keys 1000 "127.0.0.1:$c" >crowd.out 2>&1 &
echo $! >crowd.pid
wait_for 20 grep -q 'further ones wait' m.log
stop crowd
wait_for 10 healthy "http://127.0.0.1:$c"
memory "after 1500 clients"

stop m KILL
node m
check $keys n_keys
memory "after a restart"
stop m

node v3
"$bench" fill "127.0.0.1:$c" $keys 256 $clients 1 >/dev/null || failed=1
check $keys n_v3_keys
memory "$keys v3 keys written by $clients gRPC clients"
"$bench" fill "127.0.0.1:$c" $keys 256 $clients 1 >/dev/null || failed=1
memory "once more"
stop m KILL
node v3
check $keys n_v3_keys
memory "after a restart"
stop m

# Who reads much, and slowly, costs next to nothing beside the values.
ETCD=$real
node large
"$bench" fill "127.0.0.1:$c" 64 1000000 2 >/dev/null || failed=1
set -- $("$bench" readers "$c" "$(cat m.pid)" 20 2)
echo "20 readers of 64 MB: $1 kB more, $2 MB read"
[ "$1" -le 16384 ] || failed=1
[ "$2" -ge 20 ] || failed=1
finish
