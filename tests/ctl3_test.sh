#!/bin/sh
# etcdctl's v3 commands on a running server: the transcript of a session, then
# what only shows over time: watches that outlive their server, locks, leases,
# mirrors, a snapshot restored. Skipped where no server serves v3: ETCD3 names
# one (another etcd will do), else it is ours.
. "$(dirname "$0")/lib.sh"
SERVER=${ETCD3:-$ETCD}
UTL=${UTL:-$top/etcdutl}

serve() { # NAME CLIENT PEER
	"$SERVER" --name "$1" --data-dir "$dir/$1" --listen-client-urls "http://127.0.0.1:$2" \
		--advertise-client-urls "http://127.0.0.1:$2" --listen-peer-urls "http://127.0.0.1:$3" \
		--initial-advertise-peer-urls "http://127.0.0.1:$3" --initial-cluster "$1=http://127.0.0.1:$3" \
		--enable-v2 >>"$dir/$1.log" 2>&1 &
	echo $! >"$dir/$1.pid"
	wait_for 20 healthy "http://127.0.0.1:$2"
}

has_lines() { # FILE N
	[ "$(wc -l <"$1")" -ge "$2" ]
}

set -- $(ports 6)
client=$1 peer=$2 client2=$3 peer2=$4 client3=$5 peer3=$6
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS="127.0.0.1:$client"
serve n1 "$client" "$peer"
if ! "$CTL" endpoint status >/dev/null 2>&1; then
	echo 'skipped: no v3 API'
	exit 0
fi

# Keys.
check OK "$CTL" put k v
check "$(printf 'k\nv')" "$CTL" get k --dial-timeout=-1s
check '' "$CTL" get none
check "$(printf 'OK\nk\nv')" "$CTL" put k v2 --prev-kv
check "$(printf 'k\nv2')" "$CTL" get '' --prefix
printf 'value("k") = "v2"\n\nput t "a b"\nget k\n\ndel k\n\n' >txn
check "$(printf 'SUCCESS\n\nOK\n\nk\nv2')" sh -c "'$CTL' txn <txn"
check 1 "$CTL" del t

# Which API: without the variable a key of v2 is found, and the seed's list.
unset ETCDCTL_API
if "$CTL" set /old Hello >/dev/null 2>&1; then
	check Hello "$CTL" get /old
	check Hello "$CTL" get old
fi
check "$(printf 'k\nv2')" "$CTL" get k
check '' "$CTL" get neither
check 1 sh -c "'$CTL' member list | grep -c 'name=n1 peerURLs=.*isLeader=true'"
export ETCDCTL_API=3
check 1 sh -c "'$CTL' member list | grep -c ', started, n1, '"

# A watch goes on where it was when its server comes back; a lock waits for it.
"$CTL" watch w >watched 2>watch.log &
echo $! >watch.pid
sleep 0.5
"$CTL" put w 1 >/dev/null
wait_for 5 has_lines watched 3
stop n1 KILL
"$CTL" lock early --command-timeout=100ms echo mine >early 2>&1 &
echo $! >early.pid
serve n1 "$client" "$peer"
wait_for 10 grep -qx mine early
"$CTL" put w 2 >/dev/null
wait_for 10 has_lines watched 6
check "$(printf 'PUT\nw\n1\nPUT\nw\n2')" cat watched
stop watch

# A command for each event.
"$CTL" watch e -- sh -c 'echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_VALUE' >events 2>&1 &
echo $! >watch.pid
sleep 0.5
"$CTL" put e x >/dev/null
wait_for 5 has_lines events 4
check '"PUT" "x"' tail -n 1 events
stop watch

# A lock is let go when its holder is told to end; with it goes the lease.
"$CTL" lock l >locked &
echo $! >lock.pid
wait_for 5 has_lines locked 1
"$CTL" lock l -- sh -c 'echo $ETCD_LOCK_KEY' >second &
echo $! >second.pid
sleep 0.5
check '' cat second
stop lock
wait_for 5 has_lines second 1
wait "$(cat second.pid)"
rm -f second.pid
check 1 grep -c '^l/[0-9a-f]*$' second
check 'found 0 leases' "$CTL" lease list

# Who only observes an election ends well by a signal.
"$CTL" elect -l none >observed 2>&1 &
echo $! >observer.pid
sleep 0.5
stop observer
check 0 echo $?
check 'Invalid command nonsense (only support watch)' sh -c "echo nonsense | '$CTL' watch -i ignored 2>&1 | head -n 1"

# Of more than two arguments a watch takes the first alone, as etcdctl's.
"$CTL" watch wa wc ignored >first 2>&1 &
echo $! >first.pid
sleep 0.5
"$CTL" put wb 1 >/dev/null
"$CTL" put wa 2 >/dev/null
wait_for 5 has_lines first 3
check "$(printf 'PUT\nwa\n2')" cat first
stop first

# Nobody gets an empty password by hitting Return.
check 'Error: empty password' sh -c "echo | '$CTL' user add bob 2>&1 | tail -n 1"
check '' "$CTL" user list

# A mirror waits for its other side, and has what was there and what comes.
"$CTL" make-mirror "127.0.0.1:$client2" --dest-prefix m/ --command-timeout=100ms >mirror.log 2>&1 &
echo $! >mirror.pid
serve n2 "$client2" "$peer2"
unset ETCDCTL_ENDPOINTS
wait_for 10 sh -c "'$CTL' --endpoints 127.0.0.1:$client2 get m/k | grep -q v2"
"$CTL" --endpoints "127.0.0.1:$client" put later 1 >/dev/null
"$CTL" --endpoints "127.0.0.1:$client" del k >/dev/null
wait_for 10 sh -c "'$CTL' --endpoints 127.0.0.1:$client2 get m/later | grep -q 1"
wait_for 10 sh -c "! '$CTL' --endpoints 127.0.0.1:$client2 get m/k | grep -q k"
stop mirror
export ETCDCTL_ENDPOINTS="127.0.0.1:$client"

# A snapshot is no file to put in a device's place.
mkfifo special
check 'Error: special is no regular file: save to another name' sh -c "'$CTL' snapshot save special 2>&1"
check yes sh -c 'test -p special && echo yes'

# A snapshot, damaged, and restored to a new cluster.
check "Snapshot saved at $dir/snap" "$CTL" snapshot save "$dir/snap"
revision=$("$CTL" get later -w fields | sed -n 's/^"Revision" : //p')
check "$revision" sh -c "'$UTL' snapshot status snap | cut -d' ' -f2 | tr -d ,"
check "$("$CTL" endpoint hashkv | cut -d' ' -f2)" sh -c "'$UTL' hashkv snap | cut -d, -f1"
{ head -c 5000 snap && printf x && tail -c +5002 snap; } >damaged
check 1 sh -c "'$CTL' snapshot restore damaged --data-dir bad 2>&1 | grep -c 'expected sha256'"
check 1 sh -c "'$CTL' snapshot restore snap --name none --data-dir bad >/dev/null 2>&1; echo \$?"
"$CTL" snapshot restore snap --name n3 --initial-cluster "n3=http://127.0.0.1:$peer3" \
	--initial-advertise-peer-urls "http://127.0.0.1:$peer3" --data-dir n3 2>/dev/null || failed=1
check '' "$UTL" defrag --data-dir n3
check '' "$CTL" defrag --data-dir n3
check 1 sh -c "'$CTL' defrag --data-dir n1 2>&1 | grep -c 'n1 is in use by process $(cat n1.pid); stop it first'"
serve n3 "$client3" "$peer3"
export ETCDCTL_ENDPOINTS="127.0.0.1:$client3"
check "$(printf 'later\n1')" "$CTL" get later
check OK "$CTL" put after restore
check 1 sh -c "'$CTL' member list | wc -l | tr -d ' '"
for n in n1 n2 n3; do
	stop $n
done

# v2's keys as v3's, at their indexes, in a directory that nobody uses.
serve n4 "$client2" "$peer2"
v2=http://127.0.0.1:$client2/v2/keys
curl -s -X PUT "$v2/dir/a" -d value=1 >/dev/null
curl -s -X PUT "$v2/b" -d value=2 -d ttl=100 >/dev/null
curl -s -X PUT "$v2/dir/a" -d value=3 >/dev/null
check 1 sh -c "'$CTL' migrate --data-dir n4 2>&1 | grep -c 'in use'"
stop n4
cp -r n4 n4.no-ttl
check 'finished transforming keys' "$CTL" migrate --data-dir n4
check 'finished transforming keys' "$CTL" migrate --data-dir n4.no-ttl --no-ttl
serve n4 "$client2" "$peer2"
export ETCDCTL_ENDPOINTS="127.0.0.1:$client2"
check "$(printf '/b\n2\n/dir/a\n3')" "$CTL" get / --prefix
check 6 sh -c "'$CTL' get /dir/a -w fields | sed -n 's/^\"ModRevision\" : //p'"
check OK "$CTL" put new 1
stop n4 KILL
check 1 sh -c "'$CTL' migrate --data-dir n4 2>&1 | grep -c 'v3 API has been used'"
mv n4 n4.used && mv n4.no-ttl n4
serve n4 "$client2" "$peer2"
check "$(printf '/dir/a\n3')" "$CTL" get / --prefix
stop n4
finish
