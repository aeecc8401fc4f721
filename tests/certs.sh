# shellcheck shell=sh
# certs.sh - certificates for shell tests, made by openssl(1): sourced after
# lib.sh, in whose folder they are. Ends the test where tools are missing, and
# in builds without TLS or with the thread sanitizer.
for tool in openssl curl; do
	command -v $tool >/dev/null || {
		echo "skipped: no $tool"
		exit 0
	}
done
case $(curl --version) in
*https*) ;;
*)
	echo "skipped: curl without https"
	exit 0
	;;
esac
case $("$ETCD" --peer-cert-file none 2>&1) in
*"left out of this build"*)
	echo "skipped: built without TLS"
	exit 0
	;;
esac

# Handshakes take too long for etcdctl's time limits then; nettls_test tries the
# same threads.
if [ "${SAN:-}" = thread ]; then
	echo "skipped: the thread sanitizer"
	exit 0
fi

authority() { # NAME
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-keyout "$1.key" -out "$1.pem" -subj "/CN=$1" 2>/dev/null
}

# NAME AUTHORITY DAYS ALTNAMES [CN [KEY]]; no names: ""; the key P-256, or as in
# "rsa:2048".
leaf() {
	# shellcheck disable=SC2086
	openssl req -newkey ${6:-ec -pkeyopt ec_paramgen_curve:P-256} -nodes -keyout "$1.key" \
		-out "$1.csr" -subj "/CN=${5:-$1}" 2>/dev/null
	{
		echo extendedKeyUsage=serverAuth,clientAuth
		[ -z "$4" ] || echo "subjectAltName=$4"
	} >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial \
		-days "$3" -extfile "$1.ext" -out "$1.pem" 2>/dev/null
}

# A list of the authority's with one certificate revoked: OUT AUTHORITY NAME
revocation() {
	: >index.txt
	echo 01 >crlnumber
	cat >crl.cnf <<END
[ca]
default_ca = c
[c]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 30
END
	openssl ca -config crl.cnf -revoke "$3.pem" -keyfile "$2.key" -cert "$2.pem" 2>/dev/null
	openssl ca -config crl.cnf -gencrl -keyfile "$2.key" -cert "$2.pem" -out "$1" 2>/dev/null
}

# shellcheck disable=SC2034 # for those who source this
here=DNS:localhost,IP:127.0.0.1
