#!/bin/sh
# Our bbolt files and those of a real etcd, 3.4 for the exact words: it writes,
# is killed, and we read; we write, and it serves from that, in place and as a
# restored snapshot. Hashes must agree. Run by hand, where one is installed:
#
#   make build/cc/tests/backendtool build/cc/tests/freeport
#   REAL_ETCD=/usr/bin/etcd REAL_CTL=/usr/bin/etcdctl sh tests/backend_interop.sh
. "$(dirname "$0")/lib.sh"
ETCD=${REAL_ETCD:?a real etcd}
tool=$top/$BUILD/tests/backendtool
set -- $(ports 2)
client=http://127.0.0.1:$1
peer=http://127.0.0.1:$2
export ETCDCTL_API=3

ctl() {
	"${REAL_CTL:?its etcdctl}" --endpoints "$client" "$@"
}

serve() { # DATA-DIR
	start default --data-dir "$1" --listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "default=$peer"
	wait_for 10 ctl endpoint health
}

# All that clients see, but for the term, which a restart raises.
state() {
	ctl get '' --prefix -w json | sed 's/.*"kvs"/kvs/'
	ctl lease list
	ctl lease timetolive "$lease" --keys | sed 's/remaining.*attached/attached/'
	ctl user list
	ctl role get reader
	ctl endpoint hashkv -w json | sed 's/.*"hash"/hash/'
}

hashes() { # as the server has them
	printf 'hash %s ' "$(curl -s "$client/v3/maintenance/hash" -d '{}' | sed 's/.*"hash":\([0-9]*\).*/\1/')"
	printf 'hashkv %s\n' "$(ctl endpoint hashkv -w json | sed 's/.*"hash":\([0-9]*\).*/\1/')"
}

fill() {
	lease=$(ctl lease grant 5000 | awk '{print $2}')
	ctl put leased x --lease="$lease"
	for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
		printf '\nput x%s a\nput y%s "b %s"\ndel x%s\n\n\n' $i $((i % 5)) $i $((i - 3)) | ctl txn
	done
	head -c 300000 /dev/zero | tr '\0' z | ctl put big
	ctl del y1
	ctl compact 7
	ctl user add alice:secret
	ctl role add reader
	ctl role grant-permission reader read x --prefix
	ctl user grant-role alice reader
}

restore() { # OPTIONS...: ours.db becomes the data directory restored
	rm -rf restored
	ctl snapshot restore "$@" --data-dir restored --name default --initial-cluster "default=$peer" \
		--initial-advertise-peer-urls "$peer" >>restore.log 2>&1
}

serve first
fill >/dev/null
sleep 0.5 # for compaction
state >want
hashes >want-hashes
stop default KILL

"$tool" resave first/member/snap/db ours.db >got-hashes
check '' diff want-hashes got-hashes
check "$(ctl snapshot status ours.db -w json | sed 's/,"totalSize.*//')" \
	sh -c "\"$REAL_CTL\" snapshot status first/member/snap/db -w json | sed 's/,\"totalSize.*//'"

cp ours.db first/member/snap/db
serve first
state >got
check '' diff want got
ctl put after 1 >/dev/null
ctl defrag >/dev/null
stop default KILL
check 'after put' sh -c "'$tool' list first/member/snap/db | tail -n 1 | cut -d' ' -f2-"

cp ours.db trailed.db
sha256sum ours.db | cut -c1-64 | xxd -r -p >>trailed.db
check '' restore trailed.db
check '' restore ours.db --skip-hash-check
serve restored
state >got
check '' diff want got
stop default
finish
