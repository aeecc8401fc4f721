#!/bin/sh
# A build without TLS (make TLS=0) says so where it is asked for https.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

case $BUILD in
*notls*) ;;
*)
	echo "skipped: built with TLS"
	exit 0
	;;
esac

# shellcheck disable=SC2046
set -- $(ports 2)
start m --data-dir m --listen-client-urls "http://127.0.0.1:$1" --advertise-client-urls "http://127.0.0.1:$1" \
	--listen-peer-urls "http://127.0.0.1:$2" --initial-advertise-peer-urls "http://127.0.0.1:$2" \
	--initial-cluster "m=http://127.0.0.1:$2"
wait_for 10 healthy "http://127.0.0.1:$1"
advice='needs TLS, which is left out of this build (make TLS=0); use http URLs or put a TLS proxy in front'
refused "--cert-file $advice" "$ETCD" --data-dir d --cert-file server.pem --key-file server.key
refused "--client-cert-auth $advice" "$ETCD" --data-dir d --client-cert-auth
refused "--auto-tls $advice" "$ETCD" --data-dir d --auto-tls
refused "--peer-auto-tls $advice" "$ETCD" --data-dir d --peer-auto-tls
refused "--listen-client-urls https://127.0.0.1:1 $advice" "$ETCD" --data-dir d \
	--listen-client-urls https://127.0.0.1:1 --advertise-client-urls https://127.0.0.1:1
refused "--discovery https://127.0.0.1:1/x $advice" "$ETCD" --data-dir d --discovery https://127.0.0.1:1/x
refused 'TLS is left out of this build (make TLS=0)' env ETCDCTL_API=3 "$CTL" --endpoints "https://127.0.0.1:$1" get k
refused 'TLS is left out of this build (make TLS=0)' env ETCDCTL_API=3 "$CTL" --endpoints "127.0.0.1:$1" \
	--cacert ca.pem get k
refused 'TLS is left out of this build (make TLS=0)' env ETCDCTL_API=2 "$CTL" --endpoints "https://127.0.0.1:$1" ls
finish
