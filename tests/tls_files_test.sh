#!/bin/sh
# Files of certificates and keys as people have them: chains, bundles, odd PEM,
# names of all kinds; and what is said of files that cannot be used.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/certs.sh
. "$top/tests/certs.sh"

tool=$top/$BUILD/tests/tlstool
# shellcheck disable=SC2046
set -- $(ports 2)
port=$1 peer=$2
url=https://127.0.0.1:$port

run() { # NAME FLAGS...
	name=$1
	shift
	start "$name" --data-dir "$name" --listen-client-urls "${listen:-$url}" \
		--advertise-client-urls "${listen:-$url}" --listen-peer-urls "http://127.0.0.1:$peer" \
		--initial-advertise-peer-urls "http://127.0.0.1:$peer" \
		--initial-cluster "$name=http://127.0.0.1:$peer" "$@"
	wait_for 10 grep -q 'ready to serve client requests' "$name.log"
}

# An authority below another: NAME AUTHORITY DAYS EXTENSION...
below() {
	below=$1 by=$2 days=$3
	shift 3
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$below.key" \
		-out "$below.csr" -subj "/CN=$below" 2>/dev/null
	printf '%s\n' basicConstraints=critical,CA:true "$@" >"$below.ext"
	openssl x509 -req -in "$below.csr" -CA "$by.pem" -CAkey "$by.key" -CAcreateserial \
		-days "$days" -extfile "$below.ext" -out "$below.pem" 2>/dev/null
}

# WANT NAME AUTHORITIES [CERTIFICATE]: what a client gets who calls this name.
called() {
	check "$1" "$tool" client "$port" name="$2" ca="$3" get=/version ${4:+cert="$4.pem" key="$4.key"}
}
good() { # NAME AUTHORITIES [CERTIFICATE]
	called "ok TLS1.3 TLS_AES_128_GCM_SHA256 alpn= name=$1 peer=$subject" "$@"
}
says() { # TEXT NAME AUTHORITIES
	case $("$tool" client "$port" name="$2" ca="$3" get=/version) in
	"$bad"*"$1"*) ;;
	*) called "$bad ... $1" "$2" "$3" ;;
	esac
}
bad='error tls: failed to verify certificate: x509:'

authority root
authority other
below middle root 30 keyUsage=critical,keyCertSign,cRLSign
below last middle 30

# --- A chain in the server's file, roots among others in that of authorities. -------

leaf server last 30 $here
leaf client last 30 ""
cat server.pem last.pem middle.pem >chain.pem
cat client.pem last.pem middle.pem >shown.pem
cp client.key shown.key
{
	echo 'Bundle of authorities, with a word about each'
	openssl x509 -in other.pem -text
	echo
	openssl x509 -in root.pem -text -trustout | sed 's/$/\r/'
} >bundle.pem
sed 's/-----BEGIN /&X509 /; s/-----END /&X509 /' root.pem >older.pem
subject=server
run chain --cert-file chain.pem --key-file server.key --trusted-ca-file bundle.pem --client-cert-auth
good localhost root.pem shown
good 127.0.0.1 bundle.pem shown
good localhost older.pem shown
called "$bad certificate signed by unknown authority" localhost other.pem shown
called "$bad certificate is valid for localhost, not elsewhere" elsewhere root.pem shown
# Without its chain it is nobody's that the server names, so it is not shown.
called 'error remote error: tls: certificate required' localhost root.pem client
stop chain
run short --cert-file server.pem --key-file server.key
called "$bad certificate signed by unknown authority" localhost root.pem
good localhost last.pem # a root is what we trust, whoever signed it
stop short

# --- PEM of all kinds; names. ----------------------------------------------------------

# CRLF, text in front, key and certificate in one file, the curve's parameters
# before the key: as ecparam writes it.
{
	printf 'Bag Attributes\n    friendlyName: café\n'
	openssl ec -in server.key 2>/dev/null
	cat chain.pem
} | sed 's/$/\r/' >one.pem
run one --cert-file one.pem --key-file one.pem
good localhost root.pem
stop one
openssl ecparam -name prime256v1 -genkey -out params.key 2>/dev/null
openssl req -new -key params.key -subj '/O=Bücher/CN=Zoë Müller 東京' -utf8 -out utf8.csr
printf 'subjectAltName=DNS:*.example.test,IP:::1,IP:127.0.0.1\n' >utf8.ext
openssl x509 -req -in utf8.csr -CA root.pem -CAkey root.key -CAcreateserial -days 30 \
	-extfile utf8.ext -out utf8.pem 2>/dev/null
subject='Zoë Müller 東京'
listen="$url,https://[::1]:$port"
grep -q '^0*1 ' /proc/net/if_inet6 2>/dev/null || listen=$url
run names --cert-file utf8.pem --key-file params.key
good a.example.test root.pem
good 127.0.0.1 root.pem
good ::1 root.pem
called "$bad certificate is valid for *.example.test, not example.test" example.test root.pem
called "$bad certificate is valid for *.example.test, not a.b.example.test" a.b.example.test root.pem
called "$bad certificate is valid for ::1, 127.0.0.1, not 127.0.0.2" 127.0.0.2 root.pem
if [ "$listen" != "$url" ]; then
	check '{"health":"true"}' curl -sS --cacert root.pem "https://[::1]:$port/health"
	check OK env ETCDCTL_API=3 "$CTL" --endpoints "https://[::1]:$port" --cacert root.pem put k v
fi
stop names
listen=$url

# --- Authorities with limits. ---------------------------------------------------------

below narrow root 30 'nameConstraints=critical,permitted;DNS:.example.test,permitted;IP:10.0.0.0/255.0.0.0'
leaf outside narrow 30 $here
cat outside.pem narrow.pem >limited.pem
subject=outside
run limited --cert-file limited.pem --key-file outside.key
says 'is not authorized to sign for this name: DNS name "localhost" is excluded, or not permitted' localhost root.pem
stop limited
below old root -1
leaf server old 30 $here
cat server.pem old.pem >late.pem
run late --cert-file late.pem --key-file server.key
says 'certificate has expired or is not yet valid: current time ' localhost root.pem
stop late

# --- Files that cannot be used: what, which, and what to do. ----------------------------

dies() { # TEXT FLAGS...
	text=$1
	shift
	out=$($as "$ETCD" --data-dir dies --listen-client-urls "$url" --advertise-client-urls "$url" \
		--listen-peer-urls "http://127.0.0.1:$peer" "$@" 2>&1) && failed=1
	case $out in
	*"$text"*) ;;
	*)
		echo "want $text"
		echo "got  $out"
		failed=1
		;;
	esac
}
as=
leaf server root 30 $here
dies 'other.key: tls: private key does not match public key (the certificate is in server.pem)' \
	--cert-file server.pem --key-file other.key
decrypt='tls: the private key is encrypted: write it without a password, for example with "openssl pkey'
openssl pkey -in server.key -aes128 -passout pass:x -out new.key
dies "new.key: $decrypt" --cert-file server.pem --key-file new.key
openssl ec -in server.key -aes128 -passout pass:x -out old.key 2>/dev/null
dies "old.key: $decrypt" --cert-file server.pem --key-file old.key
openssl x509 -in server.pem -outform DER -out server.der
dies 'server.der: x509: no certificate in PEM' --cert-file server.der --key-file server.key
dies 'server.pem: tls: no private key in PEM' --cert-file server.pem --key-file server.pem
: >empty.pem
dies 'empty.pem: x509: no certificate in PEM' --cert-file server.pem --key-file server.key --trusted-ca-file empty.pem
head -n 5 server.pem >cut.pem
dies 'cut.pem: malformed PEM block' --cert-file cut.pem --key-file server.key
dies 'read .: is a directory' --cert-file server.pem --key-file server.key --trusted-ca-file .
cp server.key secret.key
chmod 000 secret.key
if [ "$(id -u)" = 0 ]; then
	as='setpriv --reuid 65534 --clear-groups'
	chmod 755 "$dir"
	command -v setpriv >/dev/null || as=
fi
[ "$(id -u)" = 0 ] && [ -z "$as" ] ||
	dies 'open secret.key: permission denied' --cert-file server.pem --key-file secret.key

# Where no client speaks TLS nobody looks at the clients' files, as in etcd.
listen=http://127.0.0.1:$port
run plain --cert-file none.pem --key-file none.key --trusted-ca-file none.pem
check 1 grep -c 'url http.* is HTTP while peer key/cert files are presented' plain.log
finish
