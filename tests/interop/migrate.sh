#!/bin/sh
# etcdctl migrate, theirs and ours, on copies of one stopped member's directory:
# what both servers then serve must be the same keys, whoever wrote the
# directory and whoever migrated it.
. "$(dirname "$0")/lib.sh"

fill() {
	curl -s -X PUT "$client/v2/keys/a" -d value=1
	curl -s -X PUT "$client/v2/keys/a" -d value=2
	curl -s -X PUT "$client/v2/keys/dir/sub/deep" --data-urlencode 'value=<&> "é"'
	curl -s -X PUT "$client/v2/keys/dir/ttl" -d value=soon -d ttl=1000
	curl -s -X PUT "$client/v2/keys/empty" -d value=
	curl -s -X PUT "$client/v2/keys/emptydir" -d dir=true
	curl -s -X PUT "$client/v2/keys/_hidden/x" -d value=unseen
	curl -s -X PUT "$client/v2/keys/gone" -d value=x
	curl -s -X DELETE "$client/v2/keys/gone"
	curl -s -X POST "$client/v2/keys/queue" -d value=first
	i=0
	while [ $i -lt "${1:-0}" ]; do
		curl -s -X PUT "$client/v2/keys/many/$((i % 40))" -d value=$i
		i=$((i + 1))
	done
}

dump() { # SERVER DIR FILE: all keys as they are served
	serve default "$1" "$2" --enable-v2
	"$REAL_CTL" --endpoints "$client" get '' --prefix -w fields | grep -v 'ClusterID\|MemberID\|RaftTerm' >"$3"
	stop default
}

cat >transformer <<'END'
#!/usr/bin/python3
import json, struct, sys, time
text, decoder, at = sys.stdin.read(), json.JSONDecoder(), 0
def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
while at < len(text):
    node, at = decoder.raw_decode(text, at)
    if node.get("dir"):
        continue
    key, value = ("/v3" + node["key"]).encode(), node["value"].upper().encode()
    kv = b"\x0a" + varint(len(key)) + key + b"\x10" + varint(node["createdIndex"]) + b"\x18" + varint(
        node["modifiedIndex"]) + b"\x20\x01" + b"\x2a" + varint(len(value)) + value
    sys.stdout.buffer.write(struct.pack("<q", len(kv)) + kv)
sys.stdout.flush()
time.sleep(0.5)  # their migrate reads no more once the transformer has ended
END
chmod +x transformer

for writer in "$REAL_ETCD" "$top/etcd"; do
	wrote=theirs
	[ "$writer" = "$REAL_ETCD" ] || wrote=ours
	for more in 0 60; do # and with snapshots between
		serve default "$writer" "$wrote.$more" --enable-v2 --snapshot-count 25
		fill $more >/dev/null
		stop default
		for option in '' --no-ttl "--transformer $dir/transformer"; do
			rm -rf by-them by-us
			cp -r "$wrote.$more" by-them
			cp -r "$wrote.$more" by-us
			# shellcheck disable=SC2086
			ok "$wrote: their migrate $option" "$REAL_CTL" migrate --data-dir by-them $option
			# shellcheck disable=SC2086
			ok "$wrote: our migrate $option" "$CTL" migrate --data-dir by-us $option
			dump "$REAL_ETCD" by-them want
			[ -s want ] || lose 'they serve nothing'
			cp -r by-us by-us.2
			dump "$top/etcd" by-us got
			same "$wrote $more $option, served by us" want got
			dump "$REAL_ETCD" by-us.2 got
			same "$wrote $more $option, served by them" want got
			rm -rf by-us.2
		done
	done
done

# What is refused.
serve default "$top/etcd" used --enable-v2
ok 'in use' sh -c "! '$CTL' migrate --data-dir used 2>in-use && grep -q 'in use' in-use"
"$CTL" --endpoints "$client" put k v >/dev/null
stop default KILL
ok 'v3 in use' sh -c "! '$CTL' migrate --data-dir used 2>v3 && grep -q 'v3 API has been used' v3"
ok 'no directory' sh -c "! '$CTL' migrate --data-dir nowhere 2>/dev/null"
finish
