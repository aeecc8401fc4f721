#!/bin/sh
# npm's etcd3 (node/package.json says which) against our server; it is
# installed in a folder that goes when the test does. Where npm reaches no
# registry, there is nothing to test with, and it says so.
. "$(dirname "$0")/lib.sh"
. "$TOP/tests/certs.sh"

npm ping --silent >/dev/null 2>&1 || { echo "skipped: npm reaches no registry"; exit 0; }

ok 'npm install' sh -c "cp '$top'/tests/interop/node/* '$dir' && npm install --silent --no-audit --no-fund --no-package-lock"

suite() { # ARGUMENTS OF test.js
	node test.js "$@" >node.out 2>&1
	status=$?
	cat node.out
	# shellcheck disable=SC2046
	set -- $(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' node.out)
	passed=$((passed + ${1:-0})) lost=$((lost + ${2:-1}))
	[ $status -eq 0 ] || failed=1
}

serve default "${SERVER:-$top/etcd}" "$dir/data"
suite "$client"
stop default

# The same by TLS, with a certificate demanded.
authority ca
leaf server ca 30 $here
leaf right ca 30 ""
client=https://${client#http://}
printf '%s\n' 'cacert = "ca.pem"' 'cert = "right.pem"' 'key = "right.key"' >.curlrc
export CURL_HOME="$dir"
serve tls "${SERVER:-$top/etcd}" "$dir/tls" --cert-file server.pem --key-file server.key \
	--trusted-ca-file ca.pem --client-cert-auth
suite "$client" ca.pem right.pem right.key
finish
