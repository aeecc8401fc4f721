#!/bin/sh
# TLS with other people's programs. What a server of theirs answers to a client
# with this certificate or that, ours must answer, too; each client of theirs
# (curl, openssl, gnutls-cli, etcdctl, Python's) is served, with each type of key
# and each suite; members of both kinds make a cluster with certificates on both
# sides of each connection.
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/certs.sh"

OUR_ETCD=$TOP/etcd OUR_CTL=$TOP/etcdctl
authority ca
authority stranger
leaf server ca 30 $here
leaf right ca 30 ""
leaf here ca 30 $here
leaf elsewhere ca 30 IP:10.1.2.3
leaf nowhere ca 30 DNS:nowhere.invalid
leaf expired ca -1 ""
leaf revoked ca 30 ""
leaf strange stranger 30 ""
revocation list.crl ca revoked
secure=https://${client#http://}

# One member with FLAGS on $secure.
tls_serve() { # NAME PROGRAM FLAGS...
	name=$1 ETCD=$2
	shift 2
	start "$name" --data-dir "$name" --listen-client-urls "$secure" --advertise-client-urls "$secure" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
		--initial-cluster "$name=$peer" --enable-v2 --cert-file server.pem --key-file server.key "$@"
	wait_for 10 grep -q 'ready to serve client requests' "$name.log"
}

shows() { # CERTIFICATE: options of curl
	[ "$1" = none ] || echo "--cert $1.pem --key $1.key"
}

# What each certificate gets of URL: a line for each.
outcomes() {
	at=$1
	for cert in none right here elsewhere nowhere expired revoked strange; do
		# shellcheck disable=SC2046
		if curl -sS -m 5 --no-alpn --cacert ca.pem $(shows $cert) "$at" >/dev/null 2>&1; then
			echo "$cert served"
		else
			echo "$cert refused"
		fi
	done
}

# Both servers with the same flags give the same outcomes.
compare() { # NAME FLAGS...
	what=$1
	shift
	tls_serve "theirs-$what" "$REAL_ETCD" "$@"
	outcomes "$secure/version" >theirs.out
	stop "theirs-$what"
	tls_serve "ours-$what" "$OUR_ETCD" "$@"
	outcomes "$secure/version" >ours.out
	stop "ours-$what"
	same "outcomes with $*" theirs.out ours.out
}

compare plain
compare trust --trusted-ca-file ca.pem
compare auth --trusted-ca-file ca.pem --client-cert-auth
compare list --trusted-ca-file ca.pem --client-cert-auth --client-crl-file list.crl
compare name --trusted-ca-file ca.pem --client-cert-auth --client-cert-allowed-hostname localhost

# Likewise towards peers.
compare_peers() { # NAME FLAGS...
	what=$1
	shift
	there=https://${peer#http://}
	for kind in theirs ours; do
		[ $kind = ours ] && ETCD=$OUR_ETCD || ETCD=$REAL_ETCD
		start "$kind-$what" --data-dir "$kind-$what" --listen-client-urls "$client" \
			--advertise-client-urls "$client" --listen-peer-urls "$there" \
			--initial-advertise-peer-urls "$there" --initial-cluster "$kind-$what=$there" \
			--peer-cert-file server.pem --peer-key-file server.key --peer-trusted-ca-file ca.pem "$@"
		wait_for 10 grep -q 'ready to serve client requests' "$kind-$what.log"
		outcomes "$there/members" >$kind.out
		stop "$kind-$what"
	done
	same "outcomes of peers with $*" theirs.out ours.out
}

compare_peers peers
compare_peers peers-auth --peer-client-cert-auth
compare_peers peers-cn --peer-client-cert-auth --peer-cert-allowed-cn right
compare_peers peers-anywhere --experimental-peer-skip-client-san-verification

# --- Their clients, our server; our client, their server. ---------------------------

host=${secure#https://}
clients() { # NAME CERTIFICATE
	what="$1 and $2"
	for version in 1.2 1.3; do
		ok "curl $version and $what" curl -fsS --cacert ca.pem --cert "$2.pem" --key "$2.key" \
			--tlsv$version --tls-max $version "$secure/version"
		ok "openssl $version and $what" sh -c "printf 'GET /version HTTP/1.0\r\n\r\n' |
			openssl s_client -tls${version%.*}_${version#*.} -quiet -verify_return_error -connect $host \
			-CAfile ca.pem -cert $2.pem -key $2.key 2>/dev/null | grep -q etcdserver"
		ok "gnutls $version and $what" sh -c "(printf 'GET /version HTTP/1.0\r\n\r\n'; sleep 0.3) |
			gnutls-cli --priority NORMAL:-VERS-ALL:+VERS-TLS$version --x509cafile ca.pem \
			--x509certfile $2.pem --x509keyfile $2.key -p ${host#*:} 127.0.0.1 2>/dev/null | grep -q etcdserver"
		ok "tlstool $version and $what" "$tool" client "${host#*:}" name=localhost ca=ca.pem \
			cert="$2.pem" key="$2.key" min=$version max=$version get=/version
	done
	for ctl in "$REAL_CTL" "$OUR_CTL"; do
		ok "$ctl 3 put at $what" "$ctl" --endpoints "$secure" --cacert ca.pem --cert "$2.pem" \
			--key "$2.key" put k v
		ok "$ctl 3 get at $what" "$ctl" --endpoints "$host" --cacert ca.pem --cert "$2.pem" \
			--key "$2.key" get k
		ok "$ctl 2 set at $what" env ETCDCTL_API=2 "$ctl" --endpoints "$secure" --ca-file ca.pem \
			--cert-file "$2.pem" --key-file "$2.key" set k v
	done
}
tool=$TOP/$BUILD/tests/tlstool
for type in rsa:2048 rsa:4096 'ec -pkeyopt ec_paramgen_curve:P-256' 'ec -pkeyopt ec_paramgen_curve:P-384' ed25519; do
	key=$(echo "${type##*[ :]}" | tr -d -)
	case $type in rsa*) key=rsa$key ;; esac
	leaf "$key" ca 30 $here "$key" "$type"
	for kind in theirs ours; do
		[ $kind = ours ] && program=$OUR_ETCD || program=$REAL_ETCD
		tls_serve "$kind-$key" "$program" --cert-file "$key.pem" --key-file "$key.key" \
			--trusted-ca-file ca.pem --client-cert-auth
		clients $kind "$key"
		if [ $kind = ours ]; then
			# No second handshake on a connection.
			(sleep 0.5) | timeout 10 gnutls-cli --priority NORMAL:-VERS-TLS1.3 --rehandshake --x509cafile ca.pem \
				--x509certfile "$key.pem" --x509keyfile "$key.key" -p "${host#*:}" 127.0.0.1 >again.out 2>&1
			ok "no renegotiation with $key" grep -q 'ReHandshake has failed\|Error in handshake\|No renegotiation' again.out
		fi
		stop "$kind-$key"
	done
done

# The suites of TLS 1.2, by our choice; those of TLS 1.3 are not to be
# chosen with Go: tls_interop_test has them.
for key in rsa2048:RSA P256:ECDSA; do
	signer=${key#*:} key=${key%:*}
	suites='AES_128_GCM_SHA256 AES_256_GCM_SHA384 CHACHA20_POLY1305_SHA256'
	tls_serve "theirs-suites-$key" "$REAL_ETCD" --cert-file "$key.pem" --key-file "$key.key"
	for suite in $suites; do
		full=TLS_ECDHE_${signer}_WITH_$suite
		ok "$full of theirs" sh -c "'$tool' client ${host#*:} name=localhost ca=ca.pem max=1.2 suites=$full \
			get=/version | grep -q ' $full '"
	done
	stop "theirs-suites-$key"
	for suite in $suites; do
		full=TLS_ECDHE_${signer}_WITH_$suite
		tls_serve "ours-$full" "$OUR_ETCD" --cert-file "$key.pem" --key-file "$key.key" --cipher-suites "$full" \
			--tls-max-version TLS1.2
		ok "$full with Go" "$REAL_CTL" --endpoints "$secure" --cacert ca.pem put k v
		ok "$full is the one" sh -c "'$tool' client ${host#*:} name=localhost ca=ca.pem get=/version | grep -q ' $full '"
		stop "ours-$full"
	done
done

# --- Python. ----------------------------------------------------------------------------

/usr/bin/python3 "$TOP/tests/interop/python.py" --tls "$dir" >python.out 2>&1
tail -n 20 python.out
ok 'python3-etcd3' grep -q ' passed, 0 failed$' python.out

# --- Members of both kinds. ------------------------------------------------------------

# shellcheck disable=SC2046
set -- $(ports 6)
cluster=a=https://127.0.0.1:$1,b=https://127.0.0.1:$2,c=https://127.0.0.1:$3
member() { # NAME PROGRAM PEER-PORT CLIENT-PORT
	ETCD=$2
	start "$1" --data-dir "member-$1" --listen-client-urls "http://127.0.0.1:$4" \
		--advertise-client-urls "http://127.0.0.1:$4" --listen-peer-urls "https://127.0.0.1:$3" \
		--initial-advertise-peer-urls "https://127.0.0.1:$3" --initial-cluster "$cluster" --enable-v2 \
		--peer-cert-file here.pem --peer-key-file here.key --peer-trusted-ca-file ca.pem \
		--peer-client-cert-auth --peer-cert-allowed-cn here
}
member a "$REAL_ETCD" "$1" "$4"
member b "$OUR_ETCD" "$2" "$5"
member c "$OUR_ETCD" "$3" "$6"
for port in "$4" "$5" "$6"; do
	wait_for 20 healthy "http://127.0.0.1:$port"
	ok "put at $port" "$OUR_CTL" --endpoints "http://127.0.0.1:$port" put "k$port" v
	ok "v2 set at $port" curl -fsS "http://127.0.0.1:$port/v2/keys/k$port" -XPUT -d value=v
done
for port in "$4" "$5" "$6"; do
	ok "all at $port" sh -c "[ \"\$($OUR_CTL --endpoints http://127.0.0.1:$port get k --prefix --count-only \
		-w fields | grep -c 'Count\" : 3')\" = 1 ]"
done
stop b
ok "put without one of ours" "$OUR_CTL" --endpoints "http://127.0.0.1:$4" put late v
member b "$OUR_ETCD" "$2" "$5"
wait_for 20 healthy "http://127.0.0.1:$5"
stop a
wait_for 20 "$OUR_CTL" --endpoints "http://127.0.0.1:$5" put later v
member a "$REAL_ETCD" "$1" "$4"
wait_for 20 healthy "http://127.0.0.1:$4"
ok "theirs has what it missed" "$REAL_CTL" --endpoints "http://127.0.0.1:$4" get later
finish
