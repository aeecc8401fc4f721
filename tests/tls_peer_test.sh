#!/bin/sh
# Members that talk TLS: three with each other's certificates verified, also
# after a restart; strangers, wrong names; certificates of their own making.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/certs.sh
. "$top/tests/certs.sh"

authority ca
authority stranger
leaf member ca 30 $here
leaf named ca 30 $here other
leaf strange stranger 30 $here
leaf elsewhere ca 30 IP:10.1.2.3
leaf nowhere ca 30 DNS:nowhere.invalid

# shellcheck disable=SC2046
set -- $(ports 8)
c1=http://127.0.0.1:$1 c2=http://127.0.0.1:$2 c3=http://127.0.0.1:$3 c4=http://127.0.0.1:$4
p1=https://127.0.0.1:$5 p2=https://127.0.0.1:$6 p3=https://127.0.0.1:$7 p4=https://127.0.0.1:$8
three=m1=$p1,m2=$p2,m3=$p3

run() { # NAME CLIENT-URL PEER-URL FLAGS...
	name=$1 client=$2 peer=$3
	shift 3
	start "$name" --data-dir "$name" --listen-client-urls "$client" \
		--advertise-client-urls "$client" --listen-peer-urls "$peer" \
		--initial-advertise-peer-urls "$peer" --heartbeat-interval 50 \
		--election-timeout 500 --snapshot-count 10 --experimental-snapshot-catchup-entries 5 "$@"
}

files() { # CERTIFICATE AUTHORITY
	echo "--peer-cert-file $1.pem --peer-key-file $1.key --peer-trusted-ca-file $2.pem --peer-client-cert-auth"
}

ctl() {
	ETCDCTL_API=3 "$CTL" "$@" 2>&1
}

has() { # URL KEY VALUE
	[ "$(ctl --endpoints "$1" --command-timeout 1s get --print-value-only "$2")" = "$3" ]
}

# --- Three of us. ----------------------------------------------------------------

# shellcheck disable=SC2046
{
	run m1 "$c1" "$p1" --initial-cluster "$three" $(files member ca)
	run m2 "$c2" "$p2" --initial-cluster "$three" $(files member ca)
	run m3 "$c3" "$p3" --initial-cluster "$three" $(files member ca) --peer-cert-allowed-cn member
}
for c in $c1 $c2 $c3; do
	wait_for 20 healthy "$c"
done
check OK ctl --endpoints "$c2" put k v
wait_for 5 has "$c3" k v
case $(ctl --endpoints "$c3" lease grant 100) in
*"granted with TTL(100s)"*) ;;
*)
	echo "no lease by way of a follower"
	failed=1
	;;
esac
for flags in "" "--cert elsewhere.pem --key elsewhere.key" "--cert nowhere.pem --key nowhere.key"; do
	# shellcheck disable=SC2086
	case $(curl -sS -m 5 --cacert ca.pem $flags "$p1/members" 2>&1) in
	*"curl: ("*) ;;
	*)
		echo "answered with $flags"
		failed=1
		;;
	esac
done
for text in 'error "x509: certificate is valid for 10.1.2.3, not 127.0.0.1", ServerName ""' \
	'error "tls: \"127.0.0.1\" does not match any of DNSNames [\"nowhere.invalid\"]", ServerName ""'; do
	grep -qF "$text" m1.log || {
		echo "m1 has not logged: $text"
		failed=1
	}
done
case $(curl -sS -m 5 --cacert ca.pem --cert member.pem --key member.key "$p1/members") in
*'"name":"m3"'*) ;;
*)
	echo "/members does not tell of m3"
	failed=1
	;;
esac

# A restart behind a snapshot: streams, the snapshot and probes come anew.
stop m2 KILL
i=0
while [ $i -lt 40 ]; do
	ctl --endpoints "$c1" put "k$i" v >/dev/null
	i=$((i + 1))
done
# shellcheck disable=SC2046
run m2 "$c2" "$p2" --initial-cluster "$three" $(files member ca)
wait_for 20 healthy "$c2"
wait_for 10 has "$c2" k39 v

# A fourth joins, learns and is promoted by way of a follower.
added() { # refused until all have been connected for a while
	id=$(ctl --endpoints "$c1" member add m4 --learner --peer-urls "$p4" |
		sed -n 's/^Member *\([0-9a-f]*\) added.*/\1/p')
	[ -n "$id" ]
}
wait_for 20 added
# shellcheck disable=SC2046
run m4 "$c4" "$p4" --initial-cluster "$three,m4=$p4" --initial-cluster-state existing $(files member ca)
promoted() {
	case $(ctl --endpoints "$c2" member promote "$id") in
	*promoted*) ;;
	*) return 1 ;;
	esac
}
wait_for 20 promoted
wait_for 10 has "$c4" k39 v
stop m4

# --- Strangers. ---------------------------------------------------------------------

# With a certificate of another authority, or another name where names count.
# shellcheck disable=SC2046
for f in m1 m2 m3; do
	echo ' m4 starts' >>$f.log
done
run m4 "$c4" "$p4" $(files strange stranger)
wait_for 5 grep -q 'x509: certificate signed by unknown authority' m4.log
wait_for 5 grep -q 'rejected connection from .*certificate' m1.log
sleep 3
# In a minute a line of each who is dialled, and of the stranger one for each of
# three members and of four ways to dial: there are dozens of attempts a second.
for f in m1 m2 m3; do
	n=$(sed -n '/ m4 starts/,$p' $f.log | grep -c 'rejected connection')
	[ "$n" -le 2 ] || {
		echo "$f logged $n refusals"
		failed=1
	}
done
[ "$(grep -c 'unknown authority' m4.log)" -le 12 ] || {
	echo "m4 logged $(grep -c 'unknown authority' m4.log) failures"
	failed=1
}
stop m4

# m3 alone asks for a name, so it must not be the one that leads.
m3_follows() {
	curl -sS "$c3/metrics" | grep -q '^etcd_server_is_leader 0' && return
	ctl --endpoints "$c3" move-leader "$(ctl --endpoints "$c3" member list | sed -n 's/^\([0-9a-f]*\), started, m1,.*/\1/p')"
	return 1
}
wait_for 20 m3_follows
# shellcheck disable=SC2046
run m4 "$c4" "$p4" $(files named ca)
wait_for 5 grep -q 'rejected connection from .*client certificate authentication failed' m3.log
wait_for 20 has "$c4" k39 v # the others take it
check OK ctl --endpoints "$c1" put last v
stop m4
for m in m1 m2 m3; do
	stop $m
done

# --- Certificates of their own making. ------------------------------------------------

for i in 1 2 3; do
	eval "run m$i \$c$i \$p$i --peer-auto-tls --initial-cluster $three --data-dir auto$i"
done
for c in $c1 $c2 $c3; do
	wait_for 20 healthy "$c"
done
check OK ctl --endpoints "$c2" put k v
check 'auto1/fixtures/peer/cert.pem
auto1/fixtures/peer/key.pem' ls auto1/fixtures/peer/cert.pem auto1/fixtures/peer/key.pem
for m in m1 m2 m3; do
	stop $m
done

# --- Found by way of a service with https, whose authority is the system's. -------------

leaf service ca 30 $here
service=https://${c4#http://}
start service --data-dir service --listen-client-urls "$service" --advertise-client-urls "$service" \
	--listen-peer-urls "http://${p4#https://}" --initial-advertise-peer-urls "http://${p4#https://}" \
	--initial-cluster "service=http://${p4#https://}" --cert-file service.pem --key-file service.key
wait_for 10 curl -fsS --cacert ca.pem "$service/health"
curl -sS --cacert ca.pem "$service/v2/keys/_etcd/registry/here/_config/size" -X PUT -d value=2 >/dev/null
rm m1.log
# shellcheck disable=SC2046
run m1 "$c1" "$p1" --data-dir found1 --discovery "$service/v2/keys/_etcd/registry/here" $(files member ca)
wait_for 20 grep -q 'x509: certificate signed by unknown authority' m1.log
stop m1
export SSL_CERT_FILE="$dir/ca.pem"
for i in 1 2; do
	eval "run m$i \$c$i \$p$i --data-dir found$i --discovery $service/v2/keys/_etcd/registry/here $(files member ca)"
done
for c in $c1 $c2; do
	wait_for 20 healthy "$c"
done
check OK ctl --endpoints "$c2" put k v
finish
