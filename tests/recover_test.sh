#!/bin/sh
# Starting when something is wrong, and coming back: damage to the log, a data
# directory in use, a backup, a lost quorum, signals, systemd.
. "$(dirname "$0")/lib.sh"

set -- $(ports 4)
url=http://127.0.0.1:$1 peer=http://127.0.0.1:$2 url2=http://127.0.0.1:$3 peer2=http://127.0.0.1:$4

one() { # NAME DATA-DIR [ARGS...]: a single node
	name=$1 data=$2
	shift 2
	start "$name" --data-dir "$data" --listen-client-urls "$url" --advertise-client-urls "$url" --listen-peer-urls "$peer" \
		--initial-advertise-peer-urls "$peer" --initial-cluster "$name=$peer" "$@"
}

put() { curl -s -m 5 -X PUT "$url/v2/keys/$1" -d "value=$2" | grep -q '"action":"set"'; }
value() { curl -s -m 5 "$url/v2/keys/$1" | sed 's/.*"value":"\([^"]*\)".*/\1/'; }
segment() { ls "$dir/n1/member/wal/"*.wal | tail -n 1; }

says() { # TEXT: the last server ends with status 1 and says so
	pid=$(cat n1.pid)
	wait "$pid"
	check 1 echo $?
	rm -f n1.pid
	grep -q "$1" n1.log || { echo "no \"$1\" in the log"; failed=1; }
}

one n1 n1
wait_for 10 healthy "$url"
for i in 1 2 3 4 5; do put "k$i" "v$i" || { echo "put failed"; failed=1; }; done

# The data directory is locked; the second process names the first and gives up.
start other --data-dir n1 --listen-client-urls "$url2" --advertise-client-urls "$url2" --listen-peer-urls "$peer2"
wait "$(cat other.pid)"
check 1 echo $?
rm -f other.pid
grep -q "pid $(cat n1.pid)" other.log || { echo 'the holder is not named'; failed=1; }

# The signal that stops it is the one it ends of.
stop n1 TERM
check 143 echo $?

# A torn write at the end is cut, with a line in the log.
used=$(od -Ad -tx1 -w16 "$(segment)" | awk 'NF > 1 && !/^[0-9]+( 00)+$/ {n = $1 + 16} END {print n}')
dd if=/dev/zero of="$(segment)" bs=1 seek=$((used - 12)) count=12 conv=notrunc 2>/dev/null
truncate -s "$((used - 12))" "$(segment)"
one n1 n1
wait_for 10 healthy "$url"
grep -q 'repaired the end of the log' n1.log || { echo 'no word of a repair'; failed=1; }
check v4 value k4
put k6 v6
stop n1 KILL

# Damage before the end is refused, with file and offset.
cp -a n1 damaged
printf '\377' | dd of="$dir/n1/member/wal/$(basename "$(segment)")" bs=1 seek=200 conv=notrunc 2>/dev/null
one n1 n1
says "$(basename "$(segment)")"
rm -rf n1
mv damaged n1

# A backup, with a snapshot in it, starts as a cluster of its own.
one n1 n1 --snapshot-count 10
wait_for 10 healthy "$url"
ctl3() { ETCDCTL_API=3 "$CTL" --endpoints "$url" "$@"; }
ctl3 put early three >/dev/null
for i in $(seq 30); do put "s$i" "$i"; done
snapshot_taken() { ls n1/member/snap/*.snap >/dev/null 2>&1; }
wait_for 10 snapshot_taken
put last word
ctl3 put late four >/dev/null
"$CTL" backup --data-dir n1 --backup-dir copy || { echo 'backup failed'; failed=1; }
stop n1
one n1 copy --force-new-cluster
wait_for 10 healthy "$url"
check word value last
check v6 value k6
check 30 value s30
check three ctl3 get early --print-value-only
check four ctl3 get late --print-value-only
put after backup
stop n1 KILL
one n1 copy
wait_for 10 healthy "$url"
check backup value after
stop n1

# A first start that ended between the creation of the log and its first sync:
# crc, metadata and the empty snapshot stand in it, and no entry.
one n1 early
wait_for 10 healthy "$url"
stop n1 KILL
used=0
for _ in crc metadata snapshot; do
	n=$(od -An -v -tu1 -j $used -N 1 "$dir/early/member/wal/"*.wal)
	used=$((used + 8 + (n + 7) / 8 * 8))
done
truncate -s $used "$dir/early/member/wal/"*.wal
one n1 early
wait_for 10 healthy "$url"
put early bird
check bird value early
stop n1

# Systemd is told, and wrong settings are answered with a sentence.
"$ETCD" --bogus 2>&1 | grep -q 'flag provided but not defined: -bogus' || { echo 'unknown flag'; failed=1; }
"$ETCD" --listen-client-urls nonsense 2>&1 | grep -q 'invalid value' || { echo 'bad url'; failed=1; }
"$ETCD" --config-file /nonexistent 2>&1 | grep -q 'no such file or directory' || { echo 'missing file'; failed=1; }
"$ETCD" --listen-client-urls "$url" 2>&1 | grep -q 'advertise-client-urls is required' || { echo 'advertise'; failed=1; }
one n1 n1
wait_for 10 healthy "$url"
"$ETCD" --data-dir busy --listen-client-urls "$url" --advertise-client-urls "$url" --listen-peer-urls "$peer2" 2>&1 |
	grep -q 'address already in use' || { echo 'busy port'; failed=1; }
finish
