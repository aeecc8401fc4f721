#!/bin/sh
# The TLS engine (tests/tlstool.c) against OpenSSL and GnuTLS, as a server and as
# a client: each version, suite, type of key and group; client certificates
# that are right, missing, expired or somebody else's.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

command -v openssl >/dev/null || {
	echo "skipped: no openssl"
	exit 0
}
if [ "${SAN:-}" = thread ]; then
	echo "skipped: the thread sanitizer (the engine has no threads, and is slow there)"
	exit 0
fi
gnutls=$(command -v gnutls-cli && command -v gnutls-serv) || gnutls=
tool=$top/$BUILD/tests/tlstool

# --- Certificates. -----------------------------------------------------------

authority() { # NAME
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-keyout "$1.key" -out "$1.pem" -subj "/CN=$1" 2>/dev/null
}

leaf() { # NAME AUTHORITY DAYS KEY...
	leaf=$1 by=$2 days=$3
	shift 3
	openssl genpkey "$@" -out "$leaf.key" 2>/dev/null
	openssl req -new -key "$leaf.key" -subj "/CN=$leaf" -out "$leaf.csr"
	printf '%s\n' basicConstraints=critical,CA:false extendedKeyUsage=serverAuth,clientAuth \
		keyUsage=digitalSignature subjectAltName=DNS:localhost,IP:127.0.0.1 >"$leaf.ext"
	openssl x509 -req -in "$leaf.csr" -CA "$by.pem" -CAkey "$by.key" -CAcreateserial \
		-days "$days" -extfile "$leaf.ext" -out "$leaf.pem" 2>/dev/null
}

ec='-algorithm EC -pkeyopt ec_paramgen_curve'
authority ca
authority stranger
leaf rsa ca 30 -algorithm RSA -pkeyopt rsa_keygen_bits:2048
# shellcheck disable=SC2086
{
	leaf p256 ca 30 $ec:P-256
	leaf p384 ca 30 $ec:P-384
	leaf p521 ca 30 $ec:P-521
	leaf expired ca -1 $ec:P-256
	leaf strange stranger 30 $ec:P-256
}
leaf ed25519 ca 30 -algorithm ED25519

# --- We serve. ---------------------------------------------------------------

# WANT COMMAND OPTIONS...: what tlstool says of a connection with this client.
served() {
	want=$1 command=$2
	shift 2
	check "$want" "$tool" server 0 sent=hello ca=ca.pem "run=$command >client.out 2>&1" "$@"
	case $want in
	ok*) grep -q hello client.out || {
		echo "the client did not hear: $command"
		cat client.out
		failed=1
	} ;;
	esac
}

s_client='openssl s_client -quiet -connect 127.0.0.1:$PORT -servername localhost -verify_return_error -CAfile ca.pem'
gnutls_cli='gnutls-cli --x509cafile ca.pem --sni-hostname localhost --verify-hostname localhost -p $PORT 127.0.0.1'

suites='AES_128_GCM_SHA256:AES128-GCM-SHA256:AES-128-GCM
AES_256_GCM_SHA384:AES256-GCM-SHA384:AES-256-GCM
CHACHA20_POLY1305_SHA256:CHACHA20-POLY1305:CHACHA20-POLY1305'

signer_of() { # KEY: what suites of TLS 1.2 call it
	[ "$1" = rsa ] && echo RSA || echo ECDSA
}

ok12() { # SIGNER SUITE NAME PEER
	echo "ok TLS1.2 TLS_ECDHE_$1_WITH_$2 alpn= name=$3 peer=$4"
}

ok13() { # SUITE NAME PEER
	echo "ok TLS1.3 TLS_$1 alpn= name=$2 peer=$3"
}

for key in rsa p256 p384 p521 ed25519; do
	signer=$(signer_of $key)
	for suite in $suites; do
		IFS=: read -r go ossl gtls <<-END
			$suite
		END
		mine="cert=$key.pem key=$key.key"
		# shellcheck disable=SC2086
		{
			served "$(ok13 "$go" localhost -)" "$s_client -tls1_3 -ciphersuites TLS_$go" $mine
			served "$(ok12 "$signer" "$go" localhost -)" "$s_client -tls1_2 -cipher ECDHE-$signer-$ossl" $mine
			[ -n "$gnutls" ] || continue
			only="-CIPHER-ALL:+$gtls"
			served "$(ok13 "$go" localhost -)" \
				"$gnutls_cli --priority NORMAL:-VERS-ALL:+VERS-TLS1.3:$only" $mine
			served "$(ok12 "$signer" "$go" localhost -)" \
				"$gnutls_cli --priority NORMAL:-VERS-ALL:+VERS-TLS1.2:$only" $mine
		}
	done
done

# Key agreement: the client's first choice is ours, or we ask again.
mine='cert=p256.pem key=p256.key suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256'
aes='-ciphersuites TLS_AES_128_GCM_SHA256'
for group in X25519 P-256 P-384 P-521; do
	for first in X25519:P-256:P-384:P-521 P-256:X25519:P-384:P-521 P-384:X25519:P-256:P-521 P-521:X25519:P-256:P-384; do
		# shellcheck disable=SC2086
		{
			served "$(ok13 AES_128_GCM_SHA256 localhost -)" \
				"$s_client -tls1_3 -groups $first $aes" $mine groups=$group
			served "$(ok12 ECDSA AES_128_GCM_SHA256 localhost -)" \
				"$s_client -tls1_2 -groups $first" $mine groups=$group
		}
	done
done

# Both know both versions; protocols; small fragments; keys that change.
served 'ok TLS1.3 TLS_AES_128_GCM_SHA256 alpn=h2 name=localhost peer=-' \
	"$s_client -alpn http/1.1,h2 $aes" cert=rsa.pem key=rsa.key alpn=h2
served 'error tls: client requested unsupported application protocols' \
	"$s_client -alpn spdy" cert=rsa.pem key=rsa.key alpn=h2
served "$(ok12 RSA AES_128_GCM_SHA256 localhost -)" \
	"$s_client -cipher ECDHE-RSA-AES128-GCM-SHA256" cert=rsa.pem key=rsa.key max=1.2
served 'error tls: client offered only unsupported versions: [303]' \
	"$s_client -tls1_2" cert=rsa.pem key=rsa.key min=1.3
served 'error tls: no cipher suite supported by both client and server' \
	"$s_client -tls1_2 -cipher AES128-SHA" cert=rsa.pem key=rsa.key
served "$(ok13 AES_128_GCM_SHA256 localhost -)" "$s_client $aes" cert=rsa.pem key=rsa.key update=1
served 'error remote error: tls: unknown certificate authority' \
	"$s_client" cert=strange.pem key=strange.key
served 'error remote error: tls: expired certificate' \
	"$s_client" cert=expired.pem key=expired.key

# Client certificates.
expired='error tls: failed to verify client certificate: x509: certificate has expired or is not yet valid'
for version in 2 3; do
	mine="cert=p256.pem key=p256.key min=1.$version max=1.$version auth=require"
	mine="$mine suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	with="$s_client $aes"
	# shellcheck disable=SC2086
	{
		for key in rsa p256 p384 p521 ed25519; do
			ok=$(ok13 AES_128_GCM_SHA256 localhost $key)
			[ $version != 2 ] || ok=$(ok12 ECDSA AES_128_GCM_SHA256 localhost $key)
			served "$ok" "$with -cert $key.pem -key $key.key" $mine
			[ -z "$gnutls" ] || served "$ok" "$gnutls_cli --x509certfile $key.pem --x509keyfile $key.key \
				--priority NORMAL:-CIPHER-ALL:+AES-128-GCM" $mine
		done
		served "error tls: client didn't provide a certificate" "$with" $mine
		served 'error tls: failed to verify client certificate: x509: certificate signed by unknown authority' \
			"$with -cert strange.pem -key strange.key" $mine
		got=$("$tool" server 0 ca=ca.pem $mine "run=$with -cert expired.pem -key expired.key >client.out 2>&1")
		case $got in
		"$expired"*) ;;
		*) check "$expired" echo "$got" ;;
		esac
		ok=$(ok13 AES_128_GCM_SHA256 localhost -)
		[ $version != 2 ] || ok=$(ok12 ECDSA AES_128_GCM_SHA256 localhost -)
		served "$ok" "$with" $mine auth=request
	}
done

# --- We ask. -----------------------------------------------------------------

# WANT SERVER OPTIONS...: what tlstool says of a connection to this server.
asked() {
	want=$1 command=$2
	shift 2
	# shellcheck disable=SC2046
	PORT=$(ports 1 | tr -d ' ')
	export PORT
	sh -c "exec $command" >server.out 2>&1 </dev/null &
	echo $! >server.pid
	check "$want" "$tool" client "$PORT" ca=ca.pem name=localhost "$@"
	stop server
}

s_server='openssl s_server -accept 127.0.0.1:$PORT -www'
gnutls_serv='gnutls-serv -q --echo -p $PORT'

for key in rsa p256 p384 p521 ed25519; do
	signer=$(signer_of $key)
	for suite in $suites; do
		IFS=: read -r go ossl gtls <<-END
			$suite
		END
		with="$s_server -cert $key.pem -key $key.key"
		asked "$(ok13 "$go" localhost $key)" "$with -ciphersuites TLS_$go" get=/
		asked "$(ok12 "$signer" "$go" localhost $key)" "$with -tls1_2" get=/ \
			"suites=TLS_ECDHE_${signer}_WITH_$go"
		[ -n "$gnutls" ] || continue
		with="$gnutls_serv --x509certfile $key.pem --x509keyfile $key.key"
		only="-CIPHER-ALL:+$gtls"
		asked "$(ok13 "$go" localhost $key)" "$with --priority NORMAL:$only"
		asked "$(ok12 "$signer" "$go" localhost $key)" "$with --priority NORMAL:-VERS-TLS1.3:$only"
	done
done

for group in X25519 P-256 P-384 P-521; do
	with="$s_server -cert p256.pem -key p256.key -groups $group"
	asked "$(ok13 AES_128_GCM_SHA256 localhost p256)" "$with $aes" get=/
	asked "$(ok12 ECDSA AES_128_GCM_SHA256 localhost p256)" "$with -tls1_2" get=/ \
		suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 groups=P-384,P-256,X25519,P-521
	asked "$(ok13 AES_128_GCM_SHA256 localhost p256)" "$with $aes" get=/ groups=P-384,P-256,X25519,P-521
done

with="$s_server -cert p256.pem -key p256.key $aes"
asked 'ok TLS1.3 TLS_AES_128_GCM_SHA256 alpn=h2 name=localhost peer=p256' "$with -alpn h2" alpn=http/1.1,h2 get=/
asked "$(ok13 AES_128_GCM_SHA256 localhost p256)" "$with -max_send_frag 512 -split_send_frag 512" get=/
asked "$(ok13 AES_128_GCM_SHA256 localhost p256)" "$with" update=1 get=/
asked "$(ok13 AES_128_GCM_SHA256 127.0.0.1 p256)" "$with" get=/ name=127.0.0.1
asked 'error tls: failed to verify certificate: x509: certificate is valid for localhost, not other' \
	"$with" name=other
asked 'error tls: failed to verify certificate: x509: certificate signed by unknown authority' \
	"$s_server -cert strange.pem -key strange.key"
asked 'error remote error: tls: protocol version not supported' "$with -tls1_3" max=1.2

for version in 2 3; do
	with="$s_server -tls1_$version -cert p256.pem -key p256.key $aes -Verify 2 -CAfile ca.pem -verify_return_error"
	mine="get=/ suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	ok=$(ok13 AES_128_GCM_SHA256 localhost p256)
	[ $version != 2 ] || ok=$(ok12 ECDSA AES_128_GCM_SHA256 localhost p256)
	# shellcheck disable=SC2086
	{
		for key in rsa p256 p384 p521 ed25519; do
			asked "$ok" "$with" $mine cert=$key.pem key=$key.key
		done
		asked 'error remote error: tls: expired certificate' "$with" $mine cert=expired.pem key=expired.key
		missing='certificate required'
		[ $version = 3 ] || missing='handshake failure'
		asked "error remote error: tls: $missing" "$with" $mine
		# One of an authority that the server does not name is not shown.
		asked "error remote error: tls: $missing" "$with" $mine cert=strange.pem key=strange.key
	}
done

# Data, echoed, over keys that change; GnuTLS allows for eight changes a second.
if [ -n "$gnutls" ]; then
	with="$gnutls_serv --x509certfile p256.pem --x509keyfile p256.key --priority NORMAL:-CIPHER-ALL:+AES-128-GCM"
	asked "$(ok13 AES_128_GCM_SHA256 localhost p256)" "$with" bytes=140000 update=1
	asked "$(ok13 AES_128_GCM_SHA256 localhost p256)" "$with" bytes=3000000
fi

finish
