#!/bin/sh
# curl at the JSON gateway: each path once, by each of its prefixes, with the
# same bodies to their server and ours; answers and statuses must be the same.
# Then HTTP/2 without TLS, as gRPC clients speak it.
. "$(dirname "$0")/lib.sh"

mask() {
	sed -E -e 's/"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|compact_revision)":"[0-9]+"/"\1":"N"/g' \
		-e 's/"token":"[^"]*"/"token":"T"/g; s/"leader":"[0-9]+"/"leader":"N"/; s/"hash":[0-9]+/"hash":N/' \
		-e 's/"ID":"[0-9]+","peerURLs":\["http:[^"]*"\],"isLearner"/"ID":"LEARNER","peerURLs":[],"isLearner"/g' \
		-e 's/("isLearner":true\}),"members":.*\[200/\1 [200/' \
		-e "s/${learner:-none}/LEARNER/g; /\"blob\":/s/.*/SNAPSHOT/" \
		-e 's/"(key|name)":"(bG9jay|cmFjZS)[89][^"]*"/"\1":"\2"/g; s/"lease":"[0-9]{10,}"/"lease":"L"/g'
}

# POST a body to a path below all prefixes that the path has.
post() { # PATH BODY [CURL-ARGS...]
	path=$1 body=$2
	shift 2
	echo "== $path $body"
	curl -s -m "${seconds:-5}" -w ' [%{http_code} %{content_type}]\n' "$client/$version/$path" -d "$body" "$@" |
		head -c 2000 | tr '\0-\10\13-\37\177-\377' '.' >answer
	mask <answer
}

stream() { # PATH BODY: what comes within a second
	seconds=1 post "$@"
}

paths() {
	post kv/put '{"key":"YQ==","value":"MQ=="}'
	post kv/put '{"key":"YQ==","value":"Mg==","prev_kv":true}'
	post kv/put '{"key":"Yg==","value":"Mg==","lease":"5"}'
	post kv/put '{"key":"not base64!"}'
	post kv/put '{"key":'
	post kv/put '{"unknown":1}'
	post kv/range '{"key":"YQ=="}'
	post kv/range '{"key":"AA==","range_end":"AA==","limit":"1"}'
	post kv/range '{"key":"YQ==","revision":"99"}'
	post kv/range '{"key":"YQ==","sort_order":"DESCEND","sort_target":"MOD"}'
	post kv/txn '{"compare":[{"target":"VERSION","key":"YQ==","version":"2"}],"success":[{"request_range":{"key":"YQ=="}}]}'
	post kv/deleterange '{"key":"YQ==","prev_kv":true}'
	post kv/compaction '{"revision":"3"}'
	post kv/compaction '{"revision":"3"}'
	stream watch '{"create_request":{"key":"YQ==","start_revision":"3"}}'
	stream watch '{"create_request":{"key":"YQ==","start_revision":"1"}}'
	post lease/grant '{"ID":"77","TTL":"100"}'
	stream lease/keepalive '{"ID":"77"}'
	post lease/timetolive '{"ID":"77","keys":true}'
	post kv/lease/timetolive '{"ID":"77","keys":true}'
	post lease/leases '{}'
	post kv/lease/leases '{}'
	post lease/revoke '{"ID":"77"}'
	post kv/lease/revoke '{"ID":"77"}'
	post cluster/member/list '{}'
	post cluster/member/add '{"peerURLs":["'"$peer2"'"],"isLearner":true}'
	learner=$(sed -n 's/.*"member":{"ID":"\([0-9]*\)".*/\1/p' answer)
	post cluster/member/promote '{"ID":"1"}'
	post cluster/member/update '{"ID":"1","peerURLs":["'"$peer2"'"]}'
	post cluster/member/remove '{"ID":"'"$learner"'"}' | sed "s/$learner/LEARNER/g"
	post maintenance/alarm '{"action":"GET"}'
	post maintenance/status '{}'
	post maintenance/defragment '{}'
	post maintenance/hash '{}'
	post maintenance/snapshot '{}'
	post maintenance/transfer-leadership '{"targetID":"1"}'
	post lock/lock '{"name":"bG9jaw=="}'
	post lock/unlock '{"key":"bG9jay8x"}'
	post election/campaign '{"name":"cmFjZQ==","value":"bWU="}'
	post election/leader '{"name":"cmFjZQ=="}'
	stream election/observe '{"name":"cmFjZQ=="}'
	post election/proclaim '{"leader":{"name":"cmFjZQ==","key":"eA==","rev":"1","lease":"1"},"value":"bWU="}'
	post election/resign '{"leader":{"name":"cmFjZQ==","key":"eA==","rev":"1","lease":"1"}}'
	post auth/user/add '{"name":"root","password":"pw"}'
	post auth/user/get '{"name":"root"}'
	post auth/user/list '{}'
	post auth/user/changepw '{"name":"root","password":"pw2"}'
	post auth/role/add '{"name":"root"}'
	post auth/role/add '{"name":"r"}'
	post auth/role/grant '{"name":"r","perm":{"key":"YQ==","permType":"READWRITE"}}'
	post auth/role/get '{"role":"r"}'
	post auth/role/list '{}'
	post auth/role/revoke '{"role":"r","key":"YQ=="}'
	post auth/user/grant '{"user":"root","role":"root"}'
	post auth/user/revoke '{"name":"root","role":"r"}'
	post auth/enable '{}'
	post kv/range '{"key":"YQ=="}'
	post auth/authenticate '{"name":"root","password":"bad"}'
	post auth/authenticate '{"name":"root","password":"pw2"}'
	token=$(sed -n 's/.*"token":"\([^"]*\)".*/\1/p' answer)
	post kv/range '{"key":"YQ=="}' -H "Authorization: $token"
	post auth/disable '{}' -H "Grpc-Metadata-Token: $token"
	post auth/role/delete '{"role":"r"}'
	post auth/user/delete '{"name":"root"}'
	post nonsense '{}'
	post kv/put '' -X GET
	post kv/put '' -X PUT
	post kv/put '' -X OPTIONS
}

record() { # SERVER VERSION FILE
	version=$2 learner=
	serve default "$1" "$3.data"
	paths >"$3" 2>&1
	stop default
}

split() { # FILE: one file a step
	mkdir "$1.d"
	awk -v d="$1.d" '/^== /{n++} {print > sprintf("%s/%03d", d, n)}' "$1"
}

for v in v3 v3beta v3alpha; do
	like=$v
	[ $v = v3alpha ] && like=v3 # which 3.4 has no more, but clients of 3.2 and 3.3
	[ -d theirs.$like.d ] || { record "$REAL_ETCD" $v theirs.$v; split theirs.$v; }
	record "$top/etcd" $v ours.$v
	split ours.$v
	for want in theirs.$like.d/*; do
		same "$v: $(head -n 1 "$want")" "$want" "ours.$v.d/${want##*/}"
	done
done

h2() { # an empty Range by gRPC: 5 bytes of frame, key "a"
	printf '\0\0\0\0\3\12\1a' | curl -s -m 5 --http2-prior-knowledge -H 'content-type: application/grpc' -H 'te: trailers' \
		--data-binary @- -D heads -o body "$client/etcdserverpb.KV/Range" || return 1
	grep -qi '^HTTP/2 200' heads && grep -qi '^grpc-status: 0' heads && [ -s body ]
}
serve default "$top/etcd" h2.data
ok 'curl --http2-prior-knowledge, gRPC' h2
stop default
finish
