#!/bin/sh
# README's section on TLS, as it is printed: its blocks are taken out and typed
# one after the other, with other ports and folders only.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/certs.sh
. "$top/tests/certs.sh"

# shellcheck disable=SC2046
set -- $(ports 2)
awk -v client="$1" -v peer="$2" '
	/^## / { inside = $0 == "## Three nodes with TLS" }
	{ was = code; code = /^    / }
	inside && code {
		if (!was) n++
		sub(/^    /, "")
		gsub(/:2379/, ":" client)
		gsub(/:2380/, ":" peer)
		gsub("/tmp/", "")
		print >("block" n)
	}' "$top/README.md"
check 'block1 block2 block3 block4 block5' echo block*

# What the blocks call; a server leaves its pid to the clean-up.
cat >etcd <<END
#!/bin/sh
echo \$\$ >"\${1##*=}.pid"
exec "$ETCD" "\$@" >"\${1##*=}.log" 2>&1
END
chmod +x etcd
ln -s "$CTL" etcdctl

type_in() { # BLOCK; what it says is in $BLOCK.out
	# shellcheck disable=SC1090
	. "./$1" >"$1.out" 2>&1 || {
		echo "$1 failed:"
		cat "$1.out"
		failed=1
	}
}

type_in block1
type_in block2
type_in block3
for i in 1 2 3; do
	wait_for 20 curl -fsS --cacert tls/ca.pem --cert tls/root.pem --key tls/root.key \
		"https://127.0.0.$i:$1/health"
done
type_in block4
check 3 grep -c '^https://.* is healthy: successfully committed proposal' block4.out
check OK sed -n 4p block4.out
check '{"health":"true"}' tail -n 1 block4.out
check '' sed -n '/warn/p' block4.out

type_in block5
check 'Authentication Enabled' grep Authentication block5.out
check 'greeting
Hello' tail -n 2 block5.out
denied() {
	ETCDCTL_CERT=tls/alice.pem ETCDCTL_KEY=tls/alice.key ./etcdctl put greeting Bye 2>&1 |
		grep -c 'permission denied'
}
check 1 denied
if curl -sS --cacert tls/ca.pem "https://127.0.0.1:$1/health" >none.out 2>&1; then
	echo "served without a certificate"
	failed=1
fi
for i in 1 2 3; do
	stop tls$i.yml
done
finish
