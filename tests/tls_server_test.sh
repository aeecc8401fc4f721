#!/bin/sh
# A server with TLS towards its clients: flags, certificates that are right and
# wrong, both protocols, fresh files, users by certificate.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/certs.sh
. "$top/tests/certs.sh"

authority ca
authority stranger
leaf server ca 30 $here
leaf renewed ca 30 $here
leaf root ca 30 ""
leaf alice ca 30 ""
leaf revoked ca 30 ""
leaf expired ca -1 ""
leaf strange stranger 30 ""
leaf elsewhere ca 30 IP:10.1.2.3
revocation list.crl ca revoked

# shellcheck disable=SC2046
set -- $(ports 4)
port=$1 peer=$2 metrics=$3 plain=$4
url=https://127.0.0.1:$port

run() { # NAME FLAGS...
	name=$1
	shift
	start "$name" --data-dir "$name" --advertise-client-urls "$url" \
		--listen-peer-urls "http://127.0.0.1:$peer" \
		--initial-advertise-peer-urls "http://127.0.0.1:$peer" \
		--initial-cluster "$name=http://127.0.0.1:$peer" "$@"
}

get() { # CERTIFICATE PATH CURL-OPTIONS...
	cert=$1 path=$2
	shift 2
	if [ "$cert" != none ]; then
		set -- --cert "$cert.pem" --key "$cert.key" "$@"
	fi
	curl -sS --max-time 5 --cacert ca.pem "$@" "$url$path" 2>&1
}

ctl3() { # CERTIFICATE ARGUMENTS...
	cert=$1
	shift
	ETCDCTL_API=3 "$CTL" --endpoints "$url" --cacert ca.pem --cert "$cert.pem" \
		--key "$cert.key" "$@" 2>&1
}

ctl2() {
	cert=$1
	shift
	ETCDCTL_API=2 "$CTL" --endpoints "$url" --ca-file ca.pem --cert-file "$cert.pem" \
		--key-file "$cert.key" "$@" 2>&1
}

logged() { # TEXT NAME
	grep -qF -- "$1" "$dir/$2.log" || {
		echo "$2 has not logged: $1"
		failed=1
	}
}

# --- What cannot start says why. ----------------------------------------------

dies() { # TEXT FLAGS...
	text=$1
	shift
	out=$("$ETCD" --data-dir dies --advertise-client-urls "$url" --listen-peer-urls \
		"http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
		--initial-cluster "default=http://127.0.0.1:$peer" "$@" 2>&1) && failed=1
	case $out in
	*"$text"*) ;;
	*)
		echo "want $text"
		echo "got  $out"
		failed=1
		;;
	esac
}
files="--cert-file server.pem --key-file server.key"
# shellcheck disable=SC2086
{
	dies "TLS key/cert (--cert-file, --key-file) must be provided for client url $url with HTTPs scheme" \
		--listen-client-urls "$url"
	dies "cannot listen on TLS for 127.0.0.1:$peer: KeyFile and CertFile are not presented" \
		--listen-client-urls "http://127.0.0.1:$port" --listen-peer-urls "https://127.0.0.1:$peer"
	dies "KeyFile and CertFile must both be present[key: , cert: server.pem]" \
		--listen-client-urls "http://127.0.0.1:$port" --peer-cert-file server.pem
	dies "open none.pem: no such file or directory" --listen-client-urls "$url" $files \
		--trusted-ca-file none.pem
	dies "private key does not match public key" --listen-client-urls "$url" \
		--cert-file server.pem --key-file alice.key
	dies "no certificate" --listen-client-urls "$url" $files --trusted-ca-file server.key
	dies 'unexpected TLS cipher suite "NONE"' --listen-client-urls "$url" $files --cipher-suites NONE
	dies 'none of the TLS cipher suites TLS_RSA_WITH_AES_128_GCM_SHA256 is spoken here' \
		--listen-client-urls "$url" $files --cipher-suites TLS_RSA_WITH_AES_128_GCM_SHA256
	dies "cipher suites cannot be configured when only TLS1.3 is enabled" \
		--listen-client-urls "$url" $files --tls-min-version TLS1.3 \
		--cipher-suites TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	dies "min version (TLS1.3) is greater than max version (TLS1.2)" \
		--listen-client-urls "$url" $files --tls-min-version TLS1.3 --tls-max-version TLS1.2
	dies "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url" \
		--listen-client-urls "http://127.0.0.1:$port" --listen-metrics-urls "https://127.0.0.1:$metrics"
}

# --- Certificates of clients. ----------------------------------------------------

# shellcheck disable=SC2086
run a --listen-client-urls "$url" $files --trusted-ca-file ca.pem --client-cert-auth \
	--client-crl-file list.crl --listen-metrics-urls "https://127.0.0.1:$metrics"
wait_for 10 get alice /health -f
check 'OK' ctl3 alice put k v
check 'k
v' ctl3 alice get k
check '1' ctl2 alice set a 1
check '1' ctl2 root get a
for version in 1.2 1.3; do
	check '{"action":"get","node":{"key":"/a","value":"1","modifiedIndex":4,"createdIndex":4}}' \
		get alice /v2/keys/a --tlsv$version --tls-max $version
done
check '200 1.1' get alice /version -o version -w '%{http_code} %{http_version}'
check '{"health":"true"}' curl -sS --cacert ca.pem --cert alice.pem --key alice.key \
	"https://127.0.0.1:$metrics/health"
expires() { get alice /metrics | grep '^etcd_server_certificate_expiry_days{for="client"} 29' >/dev/null; }
wait_for 10 expires
check 'Client sent an HTTP request to an HTTPS server.' curl -sS "http://127.0.0.1:$port/version"

for cert in none strange expired revoked; do
	refused 'curl: (' get $cert /version
done
check '{"health":"true"}' get elsewhere /health # only peers are looked up
refused 'remote error: tls: ' ctl3 strange get k
ctl2 strange get k >/dev/null 2>&1
check 4 echo $? # no failure of the connection
refused 'x509: certificate signed by unknown authority' env ETCDCTL_API=3 "$CTL" \
	--endpoints "$url" --cacert stranger.pem get k
logged "(error \"tls: client didn't provide a certificate\", ServerName \"\")" a
logged 'tls: failed to verify client certificate: x509: certificate signed by unknown authority' a
logged 'x509: certificate has expired or is not yet valid' a
n=$(grep -c "didn't provide a certificate" a.log)
get none /version >/dev/null
get none /version >/dev/null
[ "$(grep -c "didn't provide a certificate" a.log)" -eq "$n" ] || {
	echo "the same refusal was logged twice in a minute"
	failed=1
}
sleep 1 # its text tells the time
get expired /version >/dev/null
check 1 grep -c 'certificate has expired' a.log
# Many who come from many places, each once: a line for some of them.
i=2
while [ $i -le 45 ]; do
	get none /version --interface 127.0.0.$i >/dev/null
	i=$((i + 1))
done
[ "$(grep -c 'rejected connection' a.log)" -le 32 ] || {
	echo "$(grep -c 'rejected connection' a.log) refusals were logged"
	failed=1
}

# A server under a name that is not in its certificate.
openssl s_server -accept "127.0.0.1:$plain" -cert elsewhere.pem -key elsewhere.key -www \
	</dev/null >/dev/null 2>&1 &
echo $! >other.pid
wait_for 5 curl -fsSk "https://127.0.0.1:$plain/"
refused 'x509: certificate is valid for 10.1.2.3, not 127.0.0.1' env ETCDCTL_API=2 "$CTL" \
	--endpoints "https://127.0.0.1:$plain" --ca-file ca.pem ls
kill "$(cat other.pid)"
rm -f other.pid

# What TLS no longer has.
s_client() {
	openssl s_client -connect "127.0.0.1:$port" -CAfile ca.pem -cert alice.pem -key alice.key "$@" 2>&1
}
for old in -tls1_1 "-tls1_2 -cipher AES128-SHA" "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA"; do
	# shellcheck disable=SC2086
	s_client $old </dev/null | grep -q 'Cipher is (NONE)\|alert\|no protocols' || {
		echo "took $old"
		failed=1
	}
done
(
	sleep 0.5
	echo R
	sleep 1
) | s_client -tls1_2 >renegotiated
grep -q 'no renegotiation\|unexpected message\|handshake failure' renegotiated || {
	echo "renegotiated:"
	tail -5 renegotiated
	failed=1
}
check '{"health":"true"}' get alice /health

# A body of a megabyte, both ways; many requests on a connection.
head -c 1000000 /dev/zero | tr '\0' x >large
get alice /v2/keys/large -XPUT --data-urlencode value@large >/dev/null
[ "$(get alice /v2/keys/large | wc -c)" -gt 1000000 ] || {
	echo "a large value was lost"
	failed=1
}
check 'OK' ctl3 alice put large "$(head -c 100000 large)"
[ "$(ctl3 alice get large --print-value-only | wc -c)" -eq 100001 ] || {
	echo "a large value of v3 was lost"
	failed=1
}

# --- Fresh files. -------------------------------------------------------------------

subject() {
	s_client </dev/null | sed -n 's/^subject=.*CN = *//p'
}
ETCDCTL_API=3 "$CTL" --endpoints "$url" --cacert ca.pem --cert alice.pem --key alice.key \
	watch held >held.out &
echo $! >watch.pid
check 'server' subject
cp renewed.key new && mv new server.key # not the certificate's any more
sleep 1.1
check 'server' subject
logged 'cannot be used; those of before stay in use: server.key: tls: private key does not match' a
cp renewed.pem new && mv new server.pem
sleep 1.1
check 'renewed' subject
logged 'the TLS files for clients have changed and are in use' a
cp stranger.pem new && mv new ca.pem
kill -HUP "$(cat a.pid)"
wait_for 5 grep -q 'received hangup signal' a.log
check 'held' sh -c "ETCDCTL_API=3 $CTL --endpoints $url --cacert ca.pem --insecure-skip-tls-verify \
	--cert strange.pem --key strange.key put held 1 >/dev/null && sleep 0.5 && sed -n 2p held.out"
kill "$(cat watch.pid)" 2>/dev/null
rm -f watch.pid
[ "$(grep -c 'cannot be used' a.log)" -eq 1 ] || {
	echo "a bad file was told of more than once"
	failed=1
}
stop a

# --- Users by certificate. ------------------------------------------------------------

authority ca # that of before is a stranger's now
for cert in server root alice; do
	leaf $cert ca 30 $here
done
# shellcheck disable=SC2086
run b --listen-client-urls "$url" $files --trusted-ca-file ca.pem --client-cert-auth
wait_for 10 get root /health -f
ctl3 root user add root --new-user-password secret >/dev/null
ctl3 root user grant-role root root >/dev/null
ctl3 root user add alice --new-user-password secret >/dev/null
ctl3 root role add reader >/dev/null
ctl3 root role grant-permission reader read k >/dev/null
ctl3 root user grant-role alice reader >/dev/null
check OK ctl3 root put k v
check '{"header":' sh -c "curl -sS --cacert ca.pem --cert root.pem --key root.key \
	$url/v3/kv/range -d '{\"key\":\"aw==\"}' | cut -c1-10"
check 'Authentication Enabled' ctl3 root auth enable
check OK ctl3 root put k w
check 'k
w' ctl3 alice get k
refused 'permission denied' ctl3 alice put k x
refused 'permission denied' ctl3 server put k x # of whom nobody knows
refused 'user name not found' ctl3 server user list
refused 'auth: user not found' ctl3 server defrag
check OK ctl3 alice --user root:secret put k x

# CVE-2018-16886: through the gateway a certificate is nobody's.
ignored='CommonName of client sending a request against gateway will be ignored and not used as expected'
for cert in root alice; do
	for path in kv/range kv/put auth/user/list auth/disable maintenance/status; do
		check "$ignored
400" get $cert /v3/$path -d '{"key":"aw=="}' -w '%{http_code}'
	done
done
check 'Authentication Disabled' ctl3 root auth disable

ctl2 root user add root:secret >/dev/null
ctl2 root user add alice:secret >/dev/null
ctl2 root role add reader >/dev/null
ctl2 root role grant reader --path '/k' --read >/dev/null
ctl2 root user grant alice --roles reader >/dev/null
check v ctl2 root set k v
ctl2 root auth enable >/dev/null
ctl2 root role revoke guest --path '/*' --readwrite >/dev/null
check v ctl2 alice get k
refused Insufficient ctl2 alice set k w
refused Insufficient ctl2 alice get other
check w ctl2 root set k w
check x ctl2 alice --username root:secret set k x
refused Insufficient ctl2 root --username alice:secret set k x
stop b

# --- Without certificates of clients; both on one port; our own certificate. --------------

run self --listen-client-urls "$url" --auto-tls --trusted-ca-file ca.pem --client-cert-auth
wait_for 10 get root /health -f -k
refused 'curl: (' get none /health -k
stop self

# A proof that nobody asked for is none, and authorities alone ask for one. Of
# a list that Go knows what we have is spoken.
suites=TLS_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
run c --listen-client-urls "$url,http://127.0.0.1:$port,unixs://localhost:$plain" --auto-tls \
	--cipher-suites "$suites" --tls-max-version TLS1.2 \
	--auth-token jwt,pub-key=jwt.pem,priv-key=jwt.key,sign-method=ES256
wait_for 1 grep -q 'jwt.key: no such file' c.log
wait "$(cat c.pid)"
openssl ecparam -name prime256v1 -genkey -noout -out jwt.key 2>/dev/null
openssl ec -in jwt.key -pubout -out jwt.pem 2>/dev/null
own() { # [,priv-key=FILE]
	run c --listen-client-urls "$url,http://127.0.0.1:$port,unixs://localhost:$plain" --auto-tls \
		--cipher-suites "$suites" --tls-max-version TLS1.2 \
		--auth-token "jwt,pub-key=jwt.pem$1,sign-method=ES256"
	wait_for 10 curl -fsS "http://127.0.0.1:$port/health"
}
own ,priv-key=jwt.key
check '{"health":"true"}' curl -sS --cacert c/fixtures/client/cert.pem "$url/health"
check 'Cipher    : ECDHE-ECDSA-CHACHA20-POLY1305' sh -c "openssl s_client -connect 127.0.0.1:$port \
	</dev/null 2>/dev/null | grep -o 'Cipher *: E.*'"
check '600' stat -c %a c/fixtures/client/key.pem
check '644' stat -c %a c/fixtures/client/cert.pem
check OK env ETCDCTL_API=3 "$CTL" --endpoints "127.0.0.1:$port" --insecure-transport=false \
	--insecure-skip-tls-verify put k v
check OK env ETCDCTL_API=3 "$CTL" --endpoints "127.0.0.1:$port" put k v
check v env ETCDCTL_API=3 "$CTL" --endpoints "unixs://localhost:$plain" \
	--cacert c/fixtures/client/cert.pem get k --print-value-only
c3() {
	ETCDCTL_API=3 "$CTL" --endpoints "127.0.0.1:$port" "$@"
}
c3 user add root --new-user-password secret >/dev/null
c3 user grant-role root root >/dev/null
c3 auth enable >/dev/null
check OK c3 --user root:secret put k v
token=$(curl -sS "http://127.0.0.1:$port/v3/auth/authenticate" -d '{"name":"root","password":"secret"}' |
	sed 's/.*"token":"\([^"]*\)".*/\1/')
case $token in
eyJ*.*.*) ;;
*)
	echo "no signed token: $token"
	failed=1
	;;
esac
cp c/fixtures/client/cert.pem first.pem
stop c
own '' # can check, but not sign
check '' cmp first.pem c/fixtures/client/cert.pem
check '{"header":' sh -c "curl -sS -H 'Authorization: $token' http://127.0.0.1:$port/v3/kv/range \
	-d '{\"key\":\"aw==\"}' | cut -c1-10"
refused 'auth: token signing attempted with verify-only key' \
	c3 --user root:secret get k
stop c
finish
