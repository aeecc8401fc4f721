#!/bin/sh
# Snapshots both ways: what our server has, saved and restored by their etcdctl
# and served by their server; what theirs has, saved and restored by ours; and
# each tool's snapshot in the other's hands. Whoever serves it: every key at
# every revision, the hash, leases, users and roles must be as before.
. "$(dirname "$0")/lib.sh"

ctl() {
	"$REAL_CTL" --endpoints "$client" "$@"
}

fill() {
	lease=$(ctl lease grant 5000 | awk '{print $2}')
	ctl put leased x --lease="$lease"
	ctl put also-leased y --lease="$lease"
	for i in 1 2 3 4 5 6 7 8 9 10; do
		printf '\nput x%s a\nput y%s "b %s"\ndel x%s\n\n\n' $i $((i % 5)) $i $((i - 3)) | ctl txn
	done
	head -c 300000 /dev/zero | tr '\0' z | ctl put big
	ctl del y1
	ctl compact 6
	ctl user add alice:secret
	ctl user add root:pw
	ctl user grant-role root root
	ctl role add reader
	ctl role grant-permission reader read x --prefix
	ctl role grant-permission reader readwrite z --from-key
	ctl user grant-role alice reader
	sleep 0.3 # for the compaction
}

# All that clients see, but for the term and the ids, which a restore changes.
dump() {
	newest=$(ctl endpoint status -w json | sed 's/.*"revision":\([0-9]*\).*/\1/')
	revision=6
	while [ "$revision" -le "$newest" ]; do
		echo "revision $revision"
		ctl get '' --prefix --rev=$revision -w json | sed 's/.*"kvs"/kvs/' | cut -c1-20000
		revision=$((revision + 1))
	done
	ctl get x1 --rev=5 2>&1 | sed 's/^.*Error/Error/; /^{/d'
	ctl lease list
	ctl lease timetolive "$lease" --keys | sed 's/remaining.*attached/attached/; s/also-leased leased/leased also-leased/'
	ctl user list
	ctl user get alice
	ctl user get root
	ctl role list
	ctl role get reader
	ctl endpoint hashkv -w json | sed 's/.*"hash"/hash/'
}

works() { # auth can be turned on, passwords are the same, writes go on
	ctl auth enable && ctl get x1 --user alice:secret && ! ctl put x1 no --user alice:secret &&
		ctl put x1 yes --user root:pw && ctl auth disable --user root:pw && ctl lease revoke "$lease"
}

status_of() { # CTL
	"$1" snapshot status saved.db -w json | sed 's/,"totalSize.*//'
}

trip() { # NAME SAVER RESTORER SERVER: what the present server has
	rm -rf saved.db restored
	ok "$1: save" "$2" --endpoints "$client" snapshot save saved.db
	status_of "$REAL_CTL" >status-theirs
	status_of "$CTL" >status-ours
	same "$1: status" status-theirs status-ours
	ok "$1: restore" "$3" snapshot restore saved.db --data-dir restored --name restored \
		--initial-cluster "restored=$peer2" --initial-advertise-peer-urls "$peer2"
	client_before=$client peer_before=$peer
	client=$client2 peer=$peer2
	serve restored "$4" restored
	dump >got
	same "$1: what is served" want got
	ok "$1: it works" works
	stop restored
	client=$client_before peer=$peer_before
}

direction() { # NAME FROM-SERVER TO-SERVER
	serve default "$2" "$1.data"
	fill >/dev/null
	dump >want
	trip "$1, by their etcdctl" "$REAL_CTL" "$REAL_CTL" "$3"
	trip "$1, by ours" "$CTL" "$CTL" "$3"
	trip "$1, saved by theirs, restored by ours" "$REAL_CTL" "$CTL" "$3"
	trip "$1, saved by ours, restored by theirs" "$CTL" "$REAL_CTL" "$3"
	stop default
}

direction 'ours to theirs' "$top/etcd" "$REAL_ETCD"
direction 'theirs to ours' "$REAL_ETCD" "$top/etcd"
finish
