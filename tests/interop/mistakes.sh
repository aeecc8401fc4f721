#!/bin/sh
# Command lines that are wrong, or nearly so, and what the v3 etcdctl, theirs and
# ours, says to them and ends with: wrong numbers of arguments, wrong options,
# wrong values, unknown commands, files that are not there; on a server of ours,
# and where none is.
#
# What ours does differently on purpose is masked, or no line here:
#   - a message is not drowned in help, nor printed twice; behind help that
#     nobody has asked for stands why; names that are alike are not offered;
#   - who gets no answer is told from where, and does not wait for ever;
#   - `endpoint health` of no endpoints is an error; move-leader passes over an
#     endpoint that is down; empty items of --endpoints are none;
#   - damaged files and certificates are told from others, and in more words;
#   - options of later versions are known; numbers are not written 1_0 or 0b1;
#   - no crash (alarm list -w fields; defrag of a directory that is not there).
. "$(dirname "$0")/lib.sh"

# --- The lines, as a shell reads them. --------------------------------------------

cat >"$dir/lines" <<'LINES'
get
get a b c
get a --bogus
get a -x
get a -xyz
get a --limit=x
get a --limit
get a --limit=-1
get a --limit=
get a --limit=' 1'
get a --limit=0x10
get a --limit=010
get a --limit=+1
get a --rev=x
get a --rev=-1
get a --rev=99999999999999999999
get a --prefix=maybe
get a --prefix=
get a --prefix=T
get a --prefix=tRue
get a --prefix --from-key
get a b --prefix
get a b --from-key
get a --order=WRONG
get a --order=
get a --sort-by=WRONG
get a --consistency=x
get a --consistency=
get a --keys-only --print-value-only
get a --keys-only --print-value-only -w json
get a -w
get a -w nonsense
get a -w ''
get a -wnonsense
get a --write-out
get a ---bogus
get a --=x
get -- --limit
get -
get --help --bogus
put
put a b c
put a b --lease
put a b --lease=zz
put a b --lease=-1
put a b --lease=99999999999999999999
put a b --lease=0x12
put a b --lease=
put a b --lease=1234
put a b --ignore-value
put a b --ignore-lease --lease=12
put new --ignore-value
put a --ignore-value=x
put a b -w table
put '' b
put -- -a -b
del
del a b c
del a --prefix --from-key
del a b --prefix
del a b --from-key
del ''
del a --bogus
del a -w table
del a --prev-kv=2
txn extra
txn -i=x
txn --bogus
txn
txn -i
compaction
compaction 1 2
compaction x
compaction -1
compaction -- -1
compaction 99999999999999999999
compaction 0
compaction 99999
compaction 1 --physical=x
watch
watch -i
watch -i extra
watch --rev=x
watch --prefix a b
watch a --bogus
watch a --
watch --
watch -- echo
watch --prefix --
watch a b --prefix -- echo x
lease
lease bogus
lease grant
lease grant 1 2
lease grant x
lease grant -1
lease grant -- -1
lease grant 0x10
lease grant 99999999999999999999
lease grant 9000000001
lease revoke
lease revoke 1 2
lease revoke zz
lease revoke 12
lease revoke 99999999999999999999
lease revoke -- -5
lease timetolive
lease timetolive 1 2
lease timetolive zz
lease timetolive 12
lease timetolive 12 --keys
lease timetolive 12 -w table
lease timetolive 12 --keys=x
lease keep-alive
lease keep-alive 1 2
lease keep-alive zz
lease keep-alive 12
lease keep-alive 12 --once=x
lease list --bogus
member
member bogus
member bogus --help
member bogus extra
member bogus --bogus
member --bogus
member -x
member list extra
member list -w nonsense
member list --bogus
member add
member add a b
member add a
member add a --peer-urls
member add a --peer-urls=
member add a --peer-urls=bogus
member add a --peer-urls=http://
member add a --peer-urls=http://a
member add a --peer-urls=http://127.0.0.1:1/x
member add a --peer-urls=ftp://127.0.0.1:1
member add a --peer-urls=http://127.0.0.1:port
member add a b --peer-urls=http://127.0.0.1:1
member add a http://127.0.0.1:1
member add a b http://127.0.0.1:1 https://c
member add '' --peer-urls=bogus
member add a --learner=x
member remove
member remove 1 2
member remove zz
member remove 12
member remove 99999999999999999999
member remove -- -1
member update
member update 1 2
member update zz
member update zz --peer-urls=http://127.0.0.1:1
member update 12
member update 12 --peer-urls=
member update 12 --peer-urls=bogus
member update 12 --peer-urls=http://127.0.0.1:1
member update 12 http://127.0.0.1:1
member promote
member promote 1 2
member promote zz
member promote 12
member promote 0
endpoint
endpoint bogus
endpoint health --cluster=x
endpoint health --bogus
endpoint status --bogus
endpoint status -w nonsense
endpoint hashkv --rev=x
endpoint hashkv --rev=-1
endpoint hashkv --rev=99999
alarm
alarm bogus
alarm list extra
alarm disarm extra
alarm list -w table
defrag --bogus
defrag --cluster=x
defrag --data-dir
defrag --data-dir=
snapshot
snapshot bogus
snapshot save
snapshot save a b
snapshot save ''
snapshot save /nonexistent/file
snapshot save a --bogus
snapshot save a --command-timeout=0
snapshot save a --endpoints=
snapshot save a --endpoints=127.0.0.1:1,127.0.0.1:2
snapshot status
snapshot status a b
snapshot status /nonexistent
snapshot status ''
snapshot status /nonexistent -w nonsense
snapshot status /nonexistent --endpoints= --cacert=/nonexistent
snapshot restore
snapshot restore a b
snapshot restore /nonexistent
snapshot restore /nonexistent --data-dir=/tmp
snapshot restore /nonexistent --wal-dir=/tmp
snapshot restore /nonexistent --skip-hash-check=x
snapshot restore /nonexistent --initial-advertise-peer-urls=bogus
snapshot restore /nonexistent --initial-advertise-peer-urls=
snapshot restore /nonexistent --name=x
snapshot restore /nonexistent --name= --data-dir=/tmp
snapshot restore /nonexistent --data-dir=
auth
auth bogus
auth enable extra
auth disable extra
auth enable
auth disable
auth enable --bogus
user
user bogus
user add
user add a b
user add :pw
user add ''
user add a --interactive=x
user add a --interactive=false
user add a
user add :
user delete
user delete a b
user delete nobody
user get
user get a b
user get nobody
user get nobody --detail
user get nobody --detail=x
user get nobody -w nonsense
user list extra
user list -w fields
user list -w table
user passwd
user passwd a b
user passwd nobody --interactive=false
user passwd nobody
user grant-role
user grant-role a
user grant-role a b
user grant-role a b c
user revoke-role
user revoke-role a
user revoke-role a b
user revoke-role a b c
user grant a b
user g
role
role bogus
role add
role add a b
role add ''
role delete
role delete a b
role delete nobody
role get
role get a b
role get nobody
role list extra
role list -w fields
role grant-permission
role grant-permission r
role grant-permission r read
role grant-permission r bad
role grant-permission r bad k
role grant-permission r read k
role grant-permission r read k e x
role grant-permission r READ k
role grant-permission r read k e --prefix
role grant-permission r read k e --from-key
role grant-permission r read k --prefix --from-key
role grant-permission r read '' --prefix
role grant-permission r read ''
role revoke-permission
role revoke-permission r
role revoke-permission r k
role revoke-permission r k e x
role revoke-permission r k e --prefix
role revoke-permission r k e --from-key
role revoke-permission r k --prefix --from-key
role grant r read k
role revoke r k
role g r
move-leader
move-leader 1 2
move-leader zz
move-leader 12
move-leader 0
move-leader 99999999999999999999
move-leader -- -1
move-leader 12 --endpoints=
move-leader 12 --endpoints=127.0.0.1:1,127.0.0.1:2
lock
lock a --ttl
lock a --ttl=x
lock a --bogus
lock a /nonexistent
lock a -- sh -c 'exit 3'
elect
elect a
elect a b c
elect -l a b
elect -l
elect a --bogus
elect --listen=x a
make-mirror
make-mirror a b
make-mirror --bogus a
make-mirror a --dest-cert=/nonexistent --dest-key=/nonexistent
make-mirror a --dest-cacert=/nonexistent
make-mirror a --endpoints=
check
check bogus
check perf --load=bogus
check perf --load
check perf --endpoints=
check datascale --load=bogus
put /etcdctl-check-perf/x y
check perf
del /etcdctl-check-perf/x
put /etcdctl-check-datascale/x y
check datascale
del /etcdctl-check-datascale/x
migrate --bogus
version
version extra
version --bogus
version --endpoints= --cacert=/nonexistent
help
help bogus
help member
help member bogus
help member add
help get extra
bogus
bogus --help
bogus --bogus
--bogus
-x
--help
-h
ge a
m
me
l
lo
c
co
e
s
end h
mem b
get a --help
get -h
member list -h
get a --endpoints=
get a --endpoints
get --endpoints=
endpoint status --endpoints=
endpoint hashkv --endpoints=
defrag --endpoints=
member list --endpoints=
watch a --endpoints=
lock a --endpoints=
elect a b --endpoints=
txn --endpoints=
user list --endpoints=
alarm list --endpoints=
get a --cert=/nonexistent
get a --key=/nonexistent
get a --cert=/nonexistent --key=/nonexistent
get a --cacert=/nonexistent
get a --cacert=/nonexistent --endpoints=
get a --cert= --key=
get a --key=/nonexistent --cert=
get a --cert=/nonexistent --key=
get a --cacert=
get a --cert
get --cacert=/nonexistent
get a --order=WRONG --cacert=/nonexistent
put a b --cacert=/nonexistent
del a --cacert=/nonexistent
txn --cacert=/nonexistent
compaction 1 --cacert=/nonexistent
watch a --cacert=/nonexistent
lease grant 10 --cacert=/nonexistent
member list --cacert=/nonexistent
endpoint health --cacert=/nonexistent
endpoint health --cert=/nonexistent --key=/nonexistent
endpoint health --cluster --cacert=/nonexistent
endpoint status --cacert=/nonexistent
endpoint hashkv --cacert=/nonexistent
alarm list --cacert=/nonexistent
defrag --cacert=/nonexistent
snapshot save a --cacert=/nonexistent
auth enable --cacert=/nonexistent
user list --cacert=/nonexistent
role list --cacert=/nonexistent
move-leader 12 --cacert=/nonexistent
lock a --cacert=/nonexistent
elect a b --cacert=/nonexistent
check perf --cacert=/nonexistent
get a --insecure-transport=x
get a --insecure-skip-tls-verify=x
get a --insecure-discovery=x
get a --user
get a --user=
get a --user=a
get a --user=a:
get a --user=a:b
get a --user=:b
get a --user=a --password=
get a --user=a --password=b
get a --user=a:b --password=
get a --user=a:b --password=c
get a --password=b
get a --password=
get a --dial-timeout
get a --dial-timeout=x
get a --dial-timeout=5
get a --dial-timeout=-1s
get a --command-timeout=x
get a --command-timeout=
get a --command-timeout=0
get a --command-timeout=-1s
get a --command-timeout=5
get a --command-timeout=1x
get a --command-timeout=1h2
get a --command-timeout=99999999999h
get a --command-timeout=2000000h
get a --command-timeout=.5s
endpoint status --command-timeout=0
endpoint health --command-timeout=0
get a --keepalive-time=x
get a --keepalive-timeout=x
get a --keepalive-time=0
get a --keepalive-time=-1s
get a --hex=x
get a --debug=x
get a --discovery-srv
get a --discovery-srv=a..b
LINES

# Where nobody answers; theirs has no time limit for the others that ask.
cat >"$dir/asking" <<'LINES'
get a
put a b
del a
compaction 1
lease grant 10
lease revoke 12
member list
member add a --peer-urls=http://127.0.0.1:1
member remove 12
member promote 12
endpoint health
endpoint health --cluster
endpoint status
endpoint status --cluster
endpoint hashkv
alarm list
defrag
defrag --cluster
snapshot save a
auth enable
move-leader 12
get a --user=a:b
LINES

# --- Running them. ------------------------------------------------------------------

# What differs from run to run, then what ours does on purpose.
mask() {
	awk '
		{ line[NR] = $0 }
		/^\[exit/ { status = $0 }
		END {
			for (i = 1; i <= NR; i++) {
				s = line[i]
				if (s ~ /^HELP/ && status != "[exit 0]") continue
				if (s ~ /^stderr: (|Run .*usage\.|20[^|]*\| etcdctl: .*|stty: .*|unknown command .*)$/) continue
				if (s ~ /^stderr: \{"level"/) continue
				if (s == "stderr: Did you mean this?") { offered = 1; continue }
				if (offered && s ~ /^stderr: \t/) continue
				if (s ~ /^stderr: Error:/ && seen[s]++) continue
				print s
			}
		}' | sed -E 's/[0-9a-f]{12,16}/ID/g; s/took = .*/took/; s/ on [0-9.]+:53:/:/g; s/^stderr: 20..-..-.. [0-9:.]+ /stderr: LOG /'
}

walk() { # NAME LINES ENDPOINT
	n=0
	mkdir -p "$dir/$1"
	cd "$dir/$1" || exit 1
	while IFS= read -r line; do
		n=$((n + 1))
		text=$(printf '%s-%03d.txt' "$2" $n)
		eval "set -- \"\$1\" \"\$2\" \"\$3\" $line"
		endpoint=$3
		printf '$ etcdctl %s\n' "$line" >"$text"
		(
			shift 3
			case $line in
			*--endpoints*) ;;
			*) export ETCDCTL_ENDPOINTS="$endpoint" ;;
			esac
			case $line in
			*--command-timeout*) ;;
			*) export ETCDCTL_COMMAND_TIMEOUT=500ms ;;
			esac
			timeout 10 "$ctl" "$@" >out 2>err </dev/null
			echo "[exit $?]" >status
		)
		{
			if grep -q '^NAME:' out; then
				echo "HELP $(sed -n 2p out)"
			else
				cat out
			fi
			sed 's/^/stderr: /' err
			cat status
		} | mask >>"$text"
	done <"$dir/$2"
	cd "$dir" || exit 1
}

session() { # NAME CTL
	ctl=$2
	serve default "$top/etcd" "$dir/$1.data" --bcrypt-cost 4
	walk "$1" lines "$client"
	stop default
	walk "$1" asking "$client2"
}

session theirs "$REAL_CTL"
session ours "$CTL"
for want in "$dir"/theirs/*.txt; do
	same "$(head -n 1 "$want")" "$want" "$dir/ours/${want##*/}"
done
finish
