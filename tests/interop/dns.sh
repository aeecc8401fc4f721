#!/bin/sh
# A cluster of both kinds whose members find each other by DNS (etcd-server-ssl),
# and whose certificates have but a wildcard, so that members are known by the
# names of their addresses. In namespaces of its own, as root.
if [ -z "${INSIDE:-}" ]; then
	unshare -m -n true 2>/dev/null || {
		echo "skipped: no namespaces"
		exit 0
	}
	exec env INSIDE=1 unshare -m -n sh "$0"
fi
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/certs.sh"
OUR_ETCD=$TOP/etcd OUR_CTL=$TOP/etcdctl

ip link set lo up
echo 'nameserver 127.0.0.1' >resolv.conf
echo '::1 localhost' >hosts
mount --bind resolv.conf /etc/resolv.conf && mount --bind hosts /etc/hosts || exit 1
/usr/bin/python3 "$TOP/tests/interop/dnsserver.py" &
echo $! >dns.pid

authority ca
leaf member ca 30 'DNS:cluster.test,DNS:*.cluster.test' # etcdctl asks for the domain
leaf elsewhere ca 30 'DNS:*.elsewhere.test'
leaf both ca 30 'DNS:*.elsewhere.test,DNS:n1.cluster.test'

member() { # NUMBER PROGRAM
	ETCD=$2
	start "n$1" --data-dir "data$1" --discovery-srv cluster.test --initial-cluster-token t \
		--listen-peer-urls "https://127.0.0.$1:2380" --initial-advertise-peer-urls "https://n$1.cluster.test:2380" \
		--listen-client-urls "https://127.0.0.$1:2379" --advertise-client-urls "https://n$1.cluster.test:2379" \
		--cert-file member.pem --key-file member.key --trusted-ca-file ca.pem --client-cert-auth \
		--peer-cert-file member.pem --peer-key-file member.key --peer-trusted-ca-file ca.pem --peer-client-cert-auth
}
member 1 "$REAL_ETCD"
member 2 "$OUR_ETCD"
member 3 "$OUR_ETCD"
ctl() { # PROGRAM ARGUMENTS...
	program=$1
	shift
	"$program" --cacert ca.pem --cert member.pem --key member.key "$@"
}
for i in 1 2 3; do
	wait_for 20 ctl "$OUR_CTL" --endpoints "https://n$i.cluster.test:2379" put "k$i" v
done
for program in "$REAL_CTL" "$OUR_CTL"; do
	ok "$program finds them" sh -c "$program --discovery-srv cluster.test --cacert ca.pem --cert member.pem \
		--key member.key get k --prefix --keys-only | grep -c k | grep -qx 3"
done

# Who has no name that fits is turned away by both, and who has one of two is not.
for i in 1 2; do
	for cert in member elsewhere both; do
		if curl -sS -m 5 --no-alpn --cacert ca.pem --cert $cert.pem --key $cert.key "https://n$i.cluster.test:2380/version" \
			>/dev/null 2>&1; then
			echo "$cert served"
		else
			echo "$cert refused"
		fi
	done >"outcomes$i"
done
printf '%s\n' 'member served' 'elsewhere refused' 'both served' >want
same "names at theirs" want outcomes1
same "names at ours" want outcomes2
finish
