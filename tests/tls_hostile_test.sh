#!/bin/sh
# Handshakes that begin and stop, thousands of them, beside an honest client who
# must not wait for them; what connections with TLS cost in memory.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/certs.sh
. "$top/tests/certs.sh"

if [ "${COVERAGE:-}" ]; then
	echo "skipped: too slow here for its times"
	exit 0
fi
authority ca
leaf server ca 30 $here
tool=$top/$BUILD/tests/tlstool
# shellcheck disable=SC2046
set -- $(ports 2)
url=https://127.0.0.1:$1
start n --data-dir n --listen-client-urls "$url" --advertise-client-urls "$url" \
	--listen-peer-urls "http://127.0.0.1:$2" --initial-advertise-peer-urls "http://127.0.0.1:$2" \
	--initial-cluster "n=http://127.0.0.1:$2" --cert-file server.pem --key-file server.key
wait_for 10 curl -fsS --cacert ca.pem "$url/health"

# COMMAND...: what it prints goes on, too.
succeeds() {
	"$@" >out 2>&1 || {
		echo "failed: $*"
		failed=1
	}
	cat out
}

succeeds "$tool" idle "$1" n=1000 pid="$(cat n.pid)" name=localhost ca=ca.pem
if [ -z "${SAN:-}" ]; then
	check '' awk '$1 > 5 * 1024 || $4 > 40 { print "too much" }' out
fi

# Fewer than the server lets wait, and many more: those it ends.
for n in 1000 3000; do
	echo "$n unfinished handshakes:"
	succeeds "$tool" half "$1" n=$n seconds=3 name=localhost ca=ca.pem get=/health
	[ -n "${SAN:-}" ] || check '' awk '$4 > 500 { print "waited too long" }' out
done
stop n
finish
