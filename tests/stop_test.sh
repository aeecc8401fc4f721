#!/bin/sh
# Nobody is left without a word when a member is told to end: not who watches or
# waits for a lock, nor whose write or read waits for a quorum that is gone. And
# one that is told so while it still reads its log ends, too.
. "$(dirname "$0")/lib.sh"
set -- $(ports 4)
c1=$1 c2=$2 p1=$3 p2=$4
url=http://127.0.0.1:$c1

node() { # NUMBER CLIENT-PORT PEER-PORT
	start "n$1" --data-dir "$dir/n$1" --listen-client-urls "http://127.0.0.1:$2" \
		--advertise-client-urls "http://127.0.0.1:$2" --listen-peer-urls "http://127.0.0.1:$3" \
		--initial-advertise-peer-urls "http://127.0.0.1:$3" \
		--initial-cluster "n1=http://127.0.0.1:$p1,n2=http://127.0.0.1:$p2"
}

post() { # NAME PATH JSON: in the background, to the file NAME
	curl -sN -m 20 "$url$2" -d "$3" >"$1" 2>&1 &
	echo $! >"$1.pid"
}

says() { # NAME TEXT
	grep -q "$2" "$1" || {
		echo "FAIL: $1 says: $(cat "$1")"
		failed=1
	}
}

node 1 "$c1" "$p1"
node 2 "$c2" "$p2"
wait_for 20 healthy "$url"
check '' sh -c "curl -s $url/v3/kv/put -d '{\"key\":\"YQ==\",\"value\":\"MQ==\"}' | grep -v revision"
curl -s "$url/v3/lease/grant" -d '{"TTL":100,"ID":7}' >granted
curl -s "$url/v3/lock/lock" -d '{"name":"TA==","lease":7}' >locked
says locked key
post watch /v3/watch '{"create_request":{"key":"YQ=="}}'
post waiter /v3/lock/lock '{"name":"TA=="}'
wait_for 5 grep -q created watch
waits() { curl -s "$url/v3/kv/range" -d '{"key":"TC8=","range_end":"TDA=","count_only":true}' | grep '"count":"2"'; }
wait_for 5 waits

stop n2 KILL
post get /v3/kv/range '{"key":"YQ=="}'
post write /v3/kv/put '{"key":"YQ==","value":"Mg=="}'
ETCDCTL_API=3 "$CTL" --endpoints "$url" --command-timeout 20s put b 2 >put 2>&1 &
echo $! >put.pid
curl -s -m 20 -X PUT "$url/v2/keys/c" -d value=1 >v2 2>&1 &
echo $! >v2.pid
pending() { curl -s "$url/metrics" | grep -q '^etcd_server_proposals_pending [3-9]'; }
wait_for 5 pending
sleep 0.3 # and the read is under way, which nothing tells

began=$(date +%s)
stop n1
check 143 echo $status
[ $(($(date +%s) - began)) -le 4 ] || { echo "FAIL: it took too long to end"; failed=1; }
for who in watch waiter write put get v2; do
	wait "$(cat $who.pid)" 2>/dev/null
	rm -f $who.pid
	says $who 'etcdserver: server stopped'
done

# However far a start has come; the next one misses nothing.
alone() {
	start alone --data-dir "$dir/alone" --snapshot-count 1000000 --listen-client-urls "$url" \
		--advertise-client-urls "$url" --listen-peer-urls "http://127.0.0.1:$p1" \
		--initial-advertise-peer-urls "http://127.0.0.1:$p1" --initial-cluster "alone=http://127.0.0.1:$p1"
}
alone
wait_for 20 healthy "$url"
"$top/$BUILD/tests/benchv3" fill "127.0.0.1:$c1" 50000 200 >filled || failed=1
stop alone KILL
for after in 0 0.01 0.02 0.03 0.05 0.1 0.2; do
	alone
	sleep $after
	began=$(date +%s)
	stop alone
	check 143 echo $status
	[ $(($(date +%s) - began)) -le 4 ] || { echo "FAIL: it took too long to end"; failed=1; }
done
alone
wait_for 20 healthy "$url"
counted() { curl -s "$url/v3/kv/range" -d '{"key":"AA==","range_end":"AA==","count_only":true}' | grep -o '"count":"[0-9]*"'; }
check '"count":"50000"' counted
stop alone
finish
