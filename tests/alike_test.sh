#!/bin/sh
# Answers that once differed from those of a real etcd 3.4, found by
# tests/interop/differential.py: they are to stay alike where none is there.
. "$(dirname "$0")/lib.sh"

# shellcheck disable=SC2046
set -- $(ports 6)
url=http://127.0.0.1:$1
peer=http://127.0.0.1:$2
start m --data-dir data --enable-v2 --listen-client-urls "$url" --advertise-client-urls "$url" \
	--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" --initial-cluster "m=$peer"
wait_for 10 healthy "$url"
wait_for 10 sh -c "curl -s $url/version | grep -q 'etcdcluster\":\"3.4'"

post() { # PATH BODY: without the header
	curl -s "$url/v3/$1" -d "$2" | sed 's/"header":{[^}]*},\{0,1\}//'
}

member() { # METHOD PATH
	curl -s -w ' %{http_code}' -X "$1" "$url/v2/members${2:-}" -H 'Content-Type: application/json' \
		-d '{"peerURLs":["http://127.0.0.1:1"]}'
}

index() {
	curl -s -o /dev/null -D - "$url/v2/keys" | sed -n 's/^X-Etcd-Index: \([0-9]*\).*/\1/p'
}

# A user of v2 that is not there: deleting it still makes auth's directories.
check 3 index
check '{"message":"auth: User nobody does not exist"}' curl -s -X DELETE "$url/v2/auth/users/nobody"
check 7 index

# A NUL in a name does not end what is said of it.
auth() { # METHOD PATH [BODY]
	curl -s -X "$1" "$url/v2/auth/$2" -d "${3:-}"
}
check '{"message":"auth: User nx\u0000y does not exist."}' auth GET users/nx%00y
check '{"message":"auth: Role nx\u0000y does not exist."}' auth GET roles/nx%00y
check '{"message":"auth: Role n\u0000y doesn'"'t"' exist."}' auth DELETE roles/n%00y
check '{"message":"No such member: \u0000"} 404' member DELETE /%00
check '{"message":"Invalid log level x\u0000y"}' \
	curl -s -X PUT "$url/config/local/log" -d '{"Level":"x\u0000y"}'

# A level's name here is capnslog's, not zap's.
for level in WARN panic FATAL dpanic; do
	check "{\"message\":\"Invalid log level $level\"}" \
		curl -s -X PUT "$url/config/local/log" -d "{\"Level\":\"$level\"}"
done
for level in warning W 1 critical I; do
	check 204 curl -s -w '%{http_code}' -X PUT "$url/config/local/log" -d "{\"Level\":\"$level\"}"
done

# Zeros before a member's id.
check '{"message":"No such member: 5"} 404' member PUT /00000000000000005
check '{"message":"No such member: 0"} 404' member DELETE /000000000000000000
check '{"message":"No such member: 10000000000000000"} 404' member PUT /10000000000000000

# Peer URLs are sorted, and stay as many as they are.
id=$(curl -s "$url/v2/members" | sed 's/.*"id":"\([0-9a-f]*\)".*/\1/')
check 204 curl -s -w '%{http_code}' -X PUT "$url/v2/members/$id" -H 'Content-Type: application/json' \
	-d '{"peerURLs":["http://b:1","http://a:1","http://a:1"]}'
check '"peerURLs":["http://a:1","http://a:1","http://b:1"]' \
	sh -c "curl -s $url/v2/members | grep -o '\"peerURLs\":[^]]*]'"

# Users and roles whose names begin with _ are there, but not in lists.
check '{"user":"_u","roles":null}' auth PUT users/_u '{"user":"_u","password":"p"}'
check '{"users":null}' auth GET users
check '{"user":"_u"}' auth GET users/_u
check '{"role":"_r","permissions":{"kv":{"read":null,"write":null}}}' auth PUT roles/_r '{"role":"_r"}'
check '{"roles":[{"role":"root","permissions":{"kv":{"read":["/*"],"write":["/*"]}}}]}' auth GET roles

# Alarms of no kind are kept, but for nobody's; zeros are not shown.
check '{"alarms":[{"memberID":"7"}]}' post maintenance/alarm '{"action":"ACTIVATE","memberID":"7"}'
check '{}' post maintenance/alarm '{"action":"ACTIVATE"}'
check '{"alarms":[{"alarm":"NOSPACE"}]}' post maintenance/alarm '{"action":"ACTIVATE","alarm":"NOSPACE"}'
check '"errors":["alarm:NOSPACE ","memberID:7 "]' sh -c "curl -s $url/v3/maintenance/status -d '{}' | grep -o '\"errors\":[^]]*]'"
check '{"alarms":[{"alarm":"NOSPACE"}]}' post maintenance/alarm '{"action":"DEACTIVATE","alarm":"NOSPACE"}'

# Who proclaims without the lease of its key is given one, as who campaigns.
post lease/grant '{"ID":"7","TTL":"100"}' >/dev/null
leader=$(post election/campaign '{"name":"ZQ==","lease":"7"}' | sed 's/{"leader":\(.*\),"lease":"7"}}/\1}/')
check '{}' post election/proclaim "{\"leader\":$leader,\"value\":\"dw==\"}"
lease=$(post kv/range '{"key":"ZS83"}' | sed -n 's/.*"value":"dw==","lease":"\([0-9]*\)".*/\1/p')
granted() { post lease/timetolive "{\"ID\":\"$lease\",\"keys\":true}" | grep -o '"grantedTTL.*'; }
check '"grantedTTL":"60","keys":["ZS83"]}' granted

# Go's variables are for GET alone, not even for HEAD.
for how in -I '-X POST' '-X PUT' '-X DELETE'; do
	check 'Allow: GET' sh -c "curl -s -o /dev/null -D - $how $url/debug/vars | tr -d '\r' | grep '^Allow:'"
done
check 'Method Not Allowed 405' sh -c "curl -s -w '%{http_code}' -X POST $url/debug/vars | tr '\n' ' '"

# A path that is not clean, asked for its head only.
check 'Content-Type: text/html; charset=utf-8' sh -c "curl -s -I $url/v2/keys// | tr -d '\r' | grep Content-Type"

# With v3's users on, members are root's, whom v2's door does not know; a lease
# without keys is anybody's.
check '{"message":"No such member: 5"} 404' member PUT /5
post auth/user/add '{"name":"root","password":"pw"}' >/dev/null
post auth/role/add '{"name":"root"}' >/dev/null
post auth/user/grant '{"user":"root","role":"root"}' >/dev/null
check '{}' post auth/enable '{}'
for change in 'PUT /5' 'POST' 'DELETE /5'; do
	# shellcheck disable=SC2086
	check '{"message":"Internal Server Error"} 500' member $change
done
check '{"ID":"9","TTL":"100"}' post lease/grant '{"ID":"9","TTL":"100"}'
check '{}' post lease/revoke '{"ID":"9"}'

# Without a quorum, what this member knows of alarms and users is not the answer.
pair() { # NAME CLIENT-PORT PEER-PORT CLUSTER
	start "$1" --data-dir "$1" --heartbeat-interval 20 --election-timeout 200 \
		--listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2" \
		--listen-peer-urls "http://127.0.0.1:$3" --initial-advertise-peer-urls "http://127.0.0.1:$3" \
		--initial-cluster "$4"
}
pair one "$3" "$5" "one=http://127.0.0.1:$5,two=http://127.0.0.1:$6"
pair two "$4" "$6" "one=http://127.0.0.1:$5,two=http://127.0.0.1:$6"
url=http://127.0.0.1:$3
wait_for 10 healthy "$url"
check '{}' post maintenance/alarm '{}'
curl -s -o /dev/null -X PUT "$url/v2/auth/users/root" -d '{"user":"root","password":"p"}'
stop two KILL
leaderless() { curl -s "$url/metrics" | grep -q '^etcd_server_has_leader 0'; }
wait_for 10 leaderless
curl -s -m 20 -w ' %{http_code}' "$url/v3/maintenance/alarm" -d '{}' >alarms &
asking=$!
check '{"message":"auth: No root user available, please create one"} 409' \
	curl -s -m 20 -w ' %{http_code}' -X PUT "$url/v2/auth/enable"
check '{"error":"etcdserver: request timed out","message":"etcdserver: request timed out","code":14} 503' \
	curl -s -m 20 -w ' %{http_code}' "$url/v3/auth/authenticate" -d '{"name":"x"}'
wait $asking
check '{"error":"context deadline exceeded","message":"context deadline exceeded","code":2} 500' cat alarms
finish
