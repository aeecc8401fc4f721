#!/bin/sh
# Speed and size beside real etcd, in one run on one machine:
#
#   scripts/bench.sh [SECONDS] [v2|v3|tls]
#
# Needs wrk, h2load and etcd (etcd-server); for tls openssl, too. QUICK=1 is a smoke test: one round,
# and a hundredth of the keys and watchers.
#
# Each figure is taken from ours and from theirs in turn, both with fsync as
# they come, three times; the median counts. THEIRS=path names another etcd.
# The bare echo is the bound of what any server can reach at one connection here.
# AWAKE=1 keeps the cores from falling asleep, which on virtual machines costs more
# than all that a server does for one request.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
secs=${1:-5}
part=${2:-}
rounds=${ROUNDS:-$([ "${QUICK:-}" ] && echo 1 || echo 3)}
keys=${KEYS:-$([ "${QUICK:-}" ] && echo 10000 || echo 1000000)}
v3_watchers=${V3_WATCHERS:-$([ "${QUICK:-}" ] && echo 100 || echo 10000)}
OURS=${OURS:-$top/etcd}
THEIRS=${THEIRS:-$(command -v etcd)}
tool=$top/build/cc/tests/benchtool
v3tool=$top/build/cc/tests/benchv3
freeport=$top/build/cc/tests/freeport
web=http tls_flags='' as_client=''
for p in "$OURS" "${THEIRS:-etcd}" "$tool" "$v3tool" "$freeport"; do
	[ -x "$p" ] || { echo "$p is missing: ours are made by \`make all tests\`, theirs is in the package etcd-server" >&2; exit 1; }
done
dir=$(mktemp -d "${TMPDIR:-/tmp}/etcd-bench.XXXXXX") || exit 1
pids='' burners=''
trap 'for p in $pids $burners; do kill -9 $p 2>/dev/null; done; wait 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM HUP

cat >"$dir/put.lua" <<'L'
local n, puts = 0, {}
function init() -- to make one costs wrk as much as to send it
  local body = "value=" .. string.rep("x", 100)
  local head = {["Content-Type"] = "application/x-www-form-urlencoded"}
  for i = 1, 1000 do puts[i] = wrk.format("PUT", "/v2/keys/bench/k" .. i, head, body) end
end
request = function()
  n = n % 1000 + 1
  return puts[n]
end
L

up() { # WHICH COUNT: start 1 or 3 nodes; their client ports are in $ports
	which=$1
	count=$2
	bin=''
	eval "bin=\$$which"
	set -- $("$freeport" $((2 * count)))
	ports='' cluster='' i=1 all="$*"
	for p in $all; do
		[ $((i % 2)) = 0 ] && cluster="$cluster,n$((i / 2))=$web://127.0.0.1:$p"
		i=$((i + 1))
	done
	i=1
	set -- $all
	pids=
	while [ $# -gt 0 ]; do
		ETCD_UNSUPPORTED_ARCH=$(uname -m) "$bin" --enable-v2 --name "n$i" --data-dir "$dir/$which.$i" \
			--listen-client-urls "$web://127.0.0.1:$1" --advertise-client-urls "$web://127.0.0.1:$1" \
			--listen-peer-urls "$web://127.0.0.1:$2" --initial-advertise-peer-urls "$web://127.0.0.1:$2" \
			--initial-cluster "${cluster#,}" $tls_flags >"$dir/$which.$i.log" 2>&1 &
		pids="$pids $!"
		ports="$ports $1"
		shift 2
		i=$((i + 1))
	done
	for p in $ports; do
		until curl -sk $as_client -m 2 "$web://127.0.0.1:$p/health" | grep -q true; do sleep 0.1; done
	done
}

down() {
	for p in $pids; do kill -9 "$p" 2>/dev/null; done
	wait $pids 2>/dev/null
	pids=
	rm -rf "$dir"/OURS.* "$dir"/THEIRS.*
}

load() { # CONNECTIONS ARGS...: requests/s and p99 in us, on $rate and $p99
	c=$1
	shift
	wrk -t1 -c"$c" -d"${secs}s" --latency "$@" >"$dir/wrk.out" 2>&1
	rate=$(awk '/Requests\/sec/ {print $2}' "$dir/wrk.out")
	p99=$(awk '$1 == "99%" {v = $2; u = 1; if (v ~ /ms$/) u = 1000; else if (v ~ /[0-9]s$/) u = 1000000; sub(/[a-z]+$/, "", v); print v * u}' "$dir/wrk.out")
	grep -q 'Non-2xx' "$dir/wrk.out" && echo "warning: $(grep Non-2xx "$dir/wrk.out")" >&2
}

bare_echo() { # [DIR]: requests/s of a server that does nothing else but, with DIR, write and sync
	set -- "$("$freeport" 1)" "$@"
	"$tool" echo "$@" &
	pids=$!
	sleep 0.2
	for _ in $(seq "$rounds"); do
		load 1 "http://127.0.0.1:$1/v2/keys/bench/k1"
		echo "$rate"
	done | median
	down
}

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

row() { # TEXT OURS THEIRS UNIT MORE|LESS
	awk -v t="$1" -v a="$2" -v b="$3" -v u="$4" -v m="$5" 'BEGIN {
		r = m == "MORE" ? a / b : b / a
		printf "| %s | %s %s | %s %s | %.1f× |\n", t, a, u, b, u, r}'
}

measure() { # NODES: every figure of one run into files
	for _ in $(seq "$rounds"); do
		for which in OURS THEIRS; do
			up $which "$1"
			first=$(echo $ports | cut -d' ' -f1)
			url=http://127.0.0.1:$first
			if [ "$1" = 3 ]; then # to the leader
				for p in $ports; do
					curl -s "http://127.0.0.1:$p/v2/stats/leader" | grep -q followers && url=http://127.0.0.1:$p
				done
				load 64 -s "$dir/put.lua" "$url"
				echo "$rate" >>"$dir/$which-put3"
				echo "$p99" >>"$dir/$which-put3-p99"
			else
				sleep 0.5
				awk '/VmRSS/ {print $2 / 1024}' "/proc/${pids# }/status" >>"$dir/$which-rss"
				for c in 1 64; do
					load $c -s "$dir/put.lua" "$url"
					echo "$rate" >>"$dir/$which-put$c"
					echo "$p99" >>"$dir/$which-put$c-p99"
					load $c "$url/v2/keys/bench/k1"
					echo "$rate" >>"$dir/$which-get$c"
					echo "$p99" >>"$dir/$which-get$c-p99"
				done
			fi
			down
		done
	done
}

watchers() { # WHICH: kilobytes per idle watcher
	up "$1" 1
	before=$(awk '/VmRSS/ {print $2}' "/proc/${pids# }/status")
	mkfifo "$dir/hold"
	"$tool" watchers 127.0.0.1 ${ports# } "${WATCHERS:-10000}" <"$dir/hold" >"$dir/watchers.out" &
	holder=$!
	exec 9>"$dir/hold"
	until grep -q ready "$dir/watchers.out" || ! kill -0 $holder 2>/dev/null; do sleep 0.2; done
	sleep 1
	after=$(awk '/VmRSS/ {print $2}' "/proc/${pids# }/status")
	exec 9>&-
	wait $holder
	rm -f "$dir/hold"
	down
	awk -v a="$before" -v b="$after" -v n="${WATCHERS:-10000}" 'BEGIN {printf "%.1f", (b - a) / n}'
}

start_time() { # WHICH: milliseconds to the first answered PUT
	eval "bin=\$$1"
	for _ in 1 2 3 4 5; do
		set -- $("$freeport" 2)
		"$tool" start 127.0.0.1 "$1" "$bin" --enable-v2 --data-dir "$dir/start" --listen-client-urls "http://127.0.0.1:$1" \
			--advertise-client-urls "http://127.0.0.1:$1" --listen-peer-urls "http://127.0.0.1:$2"
		rm -rf "$dir/start"
	done | median
}

get() { median <"$dir/$1"; }

if [ "${AWAKE:-}" ]; then
	for _ in $(seq "$(nproc)"); do
		"$tool" awake &
		burners="$burners $!"
	done
fi

# --- v3. ---------------------------------------------------------------------

h2() { # BODY METHOD CONNECTIONS STREAMS: calls/s on $rate
	rate=$(h2load --npn-list=h2 -D "$secs" -c "$3" -m "$4" -d "$dir/$1" -H 'content-type: application/grpc' \
		-H 'te: trailers' "$web://127.0.0.1:$port/etcdserverpb.$2" 2>/dev/null | awk '/^finished in/ {print $4}')
}

note() { echo "$2" >>"$dir/$which-$1"; } # NAME VALUE

calls() { # every figure of one empty server of this kind
	up $which 1
	port=${ports# } pid=${pids# }
	sleep 0.5
	note rss3 "$(awk '/VmRSS/ {print $2 / 1024}' "/proc/$pid/status")"
	for shape in '1 1' '8 32'; do
		name=${shape% *}
		before=$(written)
		h2 put KV/Put $shape
		note "v3put$name" "$rate"
		note "v3bytes$name" "$(awk -v a="$before" -v b="$(written)" -v n="$rate" -v s="$secs" 'BEGIN {print (b - a) / 1024 / (n * s) * 1000}')"
		h2 range KV/Range $shape
		note "v3range$name" "$rate"
		h2 serializable KV/Range $shape
		note "v3serializable$name" "$rate"
		h2 txn KV/Txn $shape
		note "v3txn$name" "$rate"
	done
	echo '{"key":"YmVuY2gvazE="}' >"$dir/range.json"
	note v3json "$(h2load -D "$secs" -c 8 -m 1 --h1 -d "$dir/range.json" "http://127.0.0.1:$port/v3/kv/range" 2>/dev/null | awk '/^finished in/ {print $4}')"
	"$v3tool" body keepalive "$("$v3tool" grant "127.0.0.1:$port")" 100 >"$dir/keepalive"
	h2 keepalive Lease/LeaseKeepAlive 8 8
	note v3keepalive "$(awk -v r="$rate" 'BEGIN {print r * 100}')"
	note v3watch "$("$v3tool" watch "127.0.0.1:$port" 100 "$v3_watchers" "$secs")"
	"$v3tool" latency range "127.0.0.1:$port" "$((secs - 1))" >"$dir/latency" &
	reader=$!
	h2 put KV/Put 8 32
	wait $reader
	note v3p99 "$(cut -d' ' -f2 "$dir/latency")"
	down
}

written() { awk '/^write_bytes/ {print $2}' "/proc/$pid/io"; }

flags() { # of a server on ports $1 and $2 with data in $3
	echo "--data-dir $3 --listen-client-urls http://127.0.0.1:$1 --advertise-client-urls http://127.0.0.1:$1 --listen-peer-urls http://127.0.0.1:$2"
}

many_keys() { # memory, a checkpoint, a read of all, restarts: with $keys keys
	eval "bin=\$$which"
	set -- $("$freeport" 2)
	port=$1 args=$(flags "$1" "$2" "$dir/$which.many")
	pids=$("$v3tool" start "127.0.0.1:$port" "$bin" $args | cut -d' ' -f2)
	pid=$pids
	before=$(written)
	note fill "$("$v3tool" fill "127.0.0.1:$port" "$keys" 256)"
	note fill_bytes "$(awk -v a="$before" -v b="$(written)" -v n="$keys" 'BEGIN {print (b - a) / 1024 / n * 1000}')"
	note many_rss "$(awk '/VmRSS/ {print $2 / 1024}' "/proc/$pid/status")"
	"$v3tool" latency put "127.0.0.1:$port" 4 >"$dir/latency" &
	writer=$!
	sleep 0.5
	curl -s -o /dev/null -d '{}' "http://127.0.0.1:$port/v3/maintenance/snapshot"
	wait $writer
	note snapshot_p99 "$(awk '{print $2 / 1000}' "$dir/latency")"
	note snapshot_max "$(awk '{print $3 / 1000}' "$dir/latency")"
	# Of 50 at a time, etcd takes 24 GB and more.
	h2load -n 10 -c 10 -d "$dir/all" -H 'content-type: application/grpc' -H 'te: trailers' \
		"http://127.0.0.1:$port/etcdserverpb.KV/Range" >"$dir/all.out" 2>&1
	note all "$(awk '/^finished in/ {print $3}' "$dir/all.out" | sed 's/ms,/ 0.001/; s/s,/ 1/' | awk '{print $1 * $2}')"
	note all_rss "$(awk '/VmHWM/ {print $2 / 1024}' "/proc/$pid/status")"
	kill -9 "$pid"
	sleep 0.5
	for how in crash stop; do
		set -- $("$v3tool" start "127.0.0.1:$port" "$bin" $args)
		pids=$2
		note "restart_$how" "$1"
		note "restart_rss" "$(awk '/VmHWM/ {print $2 / 1024}' "/proc/$2/status")"
		kill "$2"
		while kill -0 "$2" 2>/dev/null; do sleep 0.05; done
	done
	down
}

three() { # to the leader of three
	up $which 3
	for p in $ports; do
		curl -sk "$web://127.0.0.1:$p/v2/stats/leader" | grep -q followers && port=$p
	done
	h2 put KV/Put 1 1
	note v3three1 "$rate"
	h2 put KV/Put 8 32
	note v3three8 "$rate"
	down
}

bodies() {
	"$v3tool" body put bench/k1 100 >"$dir/put"
	"$v3tool" body range bench/k1 >"$dir/range"
}

measure_v3() {
	bodies
	"$v3tool" body range bench/k1 serializable >"$dir/serializable"
	"$v3tool" body txn 100 256 >"$dir/txn"
	"$v3tool" body range fill/ fill0 >"$dir/all"
	for _ in $(seq "$rounds"); do
		for which in OURS THEIRS; do
			calls
			three
			many_keys
		done
	done
}

both() { # TEXT NAME UNIT MORE|LESS
	row "$1" "$(get "OURS-$2")" "$(get "THEIRS-$2")" "$3" "$4"
}

report_v3() {
	for c in 1 8; do
		shape="$([ $c = 1 ] && echo '1 connection, 1 stream' || echo '8 connections, 32 streams each')"
		both "v3 Put, $shape" v3put$c /s MORE
		both "v3 Range, linearizable, $shape" v3range$c /s MORE
		both "v3 Range, serializable, $shape" v3serializable$c /s MORE
		both "v3 Txn of 100 puts of 256 bytes, $shape" v3txn$c /s MORE
		both "written to disk for 1,000 puts, $shape" v3bytes$c KB LESS
	done
	both 'JSON gateway, range, 8 connections' v3json /s MORE
	both 'lease keepalives' v3keepalive /s MORE
	both "events to $v3_watchers watchers on 100 streams" v3watch /s MORE
	both 'p99 of a Range during 8x32 Puts' v3p99 us LESS
	both 'three nodes, v3 Put, 1 connection, 1 stream' v3three1 /s MORE
	both 'three nodes, v3 Put, 8 connections, 32 streams each' v3three8 /s MORE
	both 'idle RSS' rss3 MB LESS
	both "$keys keys of 32 + 256 bytes: put" fill /s MORE
	both '... written to disk for 1,000 puts' fill_bytes KB LESS
	both '... RSS' many_rss MB LESS
	both '... p99 of a Put while a snapshot is taken' snapshot_p99 ms LESS
	both '... the longest Put meanwhile' snapshot_max ms LESS
	both '... 10 clients read all of it' all s LESS
	both '... and the RSS at most' all_rss MB LESS
	both '... from a start after kill -9 to a linearizable read' restart_crash ms LESS
	both '... from a start after a stop to a linearizable read' restart_stop ms LESS
	both '... RSS at most after these' restart_rss MB LESS
}

# --- TLS. --------------------------------------------------------------------

certificate() { # KEY...: $dir/tls.pem and .key, by their own authority, and a client's by theirs
	openssl req -x509 -newkey "$@" -nodes -days 30 -subj /CN=bench -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$dir/tls.key" -out "$dir/tls.pem" 2>/dev/null
	openssl req -newkey "$@" -nodes -subj /CN=client -keyout "$dir/client.key" 2>/dev/null |
		openssl x509 -req -days 30 -CA "$dir/tls.pem" -CAkey "$dir/tls.key" -set_serial 1 -out "$dir/client.pem" 2>/dev/null
	tls_flags="--cert-file $dir/tls.pem --key-file $dir/tls.key --peer-cert-file $dir/tls.pem \
		--peer-key-file $dir/tls.key --peer-trusted-ca-file $dir/tls.pem"
}

# Full handshakes for $secs, from two clients: how many a second, and what one
# costs the server.
handshakes() { # NAME VERSION FLAGS...
	name=$1 version=$2
	shift 2
	port=${ports# } before=$(cpu_ms)
	timers=''
	for i in 1 2; do
		openssl s_time -connect "127.0.0.1:$port" -new -time "$secs" "-tls1_$version" "$@" >"$dir/time$i" 2>&1 &
		timers="$timers $!"
	done
	wait $timers
	n=$(awk '/connections in .* real/ {n += $1} END {print n}' "$dir/time1" "$dir/time2")
	note "$name" "$(awk -v n="$n" -v s="$secs" 'BEGIN {print n / s}')"
	note "${name}cpu" "$(awk -v a="$before" -v b="$(cpu_ms)" -v n="$n" 'BEGIN {print (b - a) * 1000 / n}')"
}

cpu_ms() { awk -v hz="$(getconf CLK_TCK)" '{print ($14 + $15) * 1000 / hz}' "/proc/${pids# }/stat"; }

tls_one() {
	certificate ec -pkeyopt ec_paramgen_curve:P-256
	up $which 1
	port=${ports# }
	sleep 0.5
	note tlsrss "$(awk '/VmRSS/ {print $2 / 1024}' "/proc/${pids# }/status")"
	handshakes shake2 2
	handshakes shake3 3
	for shape in '1 1' '8 32'; do
		h2 put KV/Put $shape
		note "tlsput${shape% *}" "$rate"
		h2 range KV/Range $shape
		note "tlsrange${shape% *}" "$rate"
	done
	curl -sk -o /dev/null -X PUT -d value=x "https://127.0.0.1:$port/v2/keys/bench/k1"
	for c in 1 64; do
		load $c -s "$dir/put.lua" "https://127.0.0.1:$port"
		note "tlsv2put$c" "$rate"
		load $c "https://127.0.0.1:$port/v2/keys/bench/k1"
		note "tlsv2get$c" "$rate"
	done
	down
	tls_flags="$tls_flags --client-cert-auth --trusted-ca-file $dir/tls.pem"
	as_client="--cert $dir/client.pem --key $dir/client.key"
	up $which 1
	for version in 2 3; do
		handshakes shakeauth$version $version -cert "$dir/client.pem" -key "$dir/client.key"
	done
	down
	as_client=''
	certificate rsa:2048
	up $which 1
	handshakes shakersa 3
	down
}

measure_tls() {
	bodies
	web=https
	for _ in $(seq "$rounds"); do
		for which in OURS THEIRS; do
			tls_one
			certificate ec -pkeyopt ec_paramgen_curve:P-256
			three
		done
	done
	web=http tls_flags=''
}

report_tls() {
	for kind in 'shake3 TLS 1.3, P-256' 'shake2 TLS 1.2, P-256' 'shakeauth3 TLS 1.3, P-256, client certificates' \
		'shakeauth2 TLS 1.2, P-256, client certificates' 'shakersa TLS 1.3, RSA 2048'; do
		both "full handshakes, ${kind#* }" "${kind%% *}" /s MORE
		both "... and the server's CPU time for one" "${kind%% *}cpu" us LESS
	done
	for c in 1 8; do
		shape="$([ $c = 1 ] && echo '1 connection, 1 stream' || echo '8 connections, 32 streams each')"
		both "TLS, v3 Put, $shape" tlsput$c /s MORE
		both "TLS, v3 Range, linearizable, $shape" tlsrange$c /s MORE
	done
	for c in 1 64; do
		both "TLS, v2 PUT, $c connections" tlsv2put$c /s MORE
		both "TLS, v2 GET, $c connections" tlsv2get$c /s MORE
	done
	both 'TLS everywhere, three nodes, v3 Put, 1 connection, 1 stream' v3three1 /s MORE
	both 'TLS everywhere, three nodes, v3 Put, 8 connections, 32 streams each' v3three8 /s MORE
	both 'TLS, idle RSS' tlsrss MB LESS
}

echo "ours: $("$OURS" --version | head -n 1); theirs: $("$THEIRS" --version | head -n 1); $(nproc) cores; wrk for ${secs}s, median of $rounds"
echo
echo '| figure | ours | etcd | ratio |'
echo '| --- | --- | --- | --- |'
if [ "$part" != v2 ] && [ "$part" != tls ]; then
	measure_v3
	report_v3
	rm -f "$dir"/*-v3*
fi
if [ "$part" != v2 ] && [ "$part" != v3 ]; then
	measure_tls
	report_tls
fi
if [ "$part" = v3 ] || [ "$part" = tls ]; then exit 0; fi
measure 1
for c in 1 64; do
	row "v2 PUT, $c connections" "$(get OURS-put$c)" "$(get THEIRS-put$c)" /s MORE
	row "v2 GET, $c connections" "$(get OURS-get$c)" "$(get THEIRS-get$c)" /s MORE
done
row "v2 PUT p99, 64 connections" "$(get OURS-put64-p99)" "$(get THEIRS-put64-p99)" us LESS
row "v2 GET p99, 64 connections" "$(get OURS-get64-p99)" "$(get THEIRS-get64-p99)" us LESS
row "idle RSS" "$(get OURS-rss)" "$(get THEIRS-rss)" MB LESS
row "start to first PUT" "$(start_time OURS)" "$(start_time THEIRS)" ms LESS
measure 3
row "three nodes, v2 PUT, 64 connections" "$(get OURS-put3)" "$(get THEIRS-put3)" /s MORE
row "one idle watcher of ${WATCHERS:-10000}" "$(watchers OURS)" "$(watchers THEIRS)" KB LESS
echo
if [ "${AWAKE:-}" ]; then echo "no core was let fall asleep (AWAKE=1)"; fi
echo "bare HTTP echo, 1 connection: $(bare_echo) /s; with write+fdatasync: $(bare_echo "$dir") /s"
bare=$("$tool" fsync "$dir" 5000)
awk -v b="$bare" -v r="$(get OURS-put1)" 'BEGIN {
	printf "bare write+fdatasync: %.1f us; our PUT at 1 connection: %.1f us, %.2f times that\n", b, 1e6 / r, 1e6 / r / b}'
