#!/bin/sh
# The transcript that this project began with: one node by flags, three nodes
# by YAML files on three addresses, and every command as it was printed.
. "$(dirname "$0")/lib.sh"

single_node() {
	set -- $(ports 2)
	mkdir -p log
	"$ETCD" --data-dir ./data.etcd/ --listen-client-urls "http://127.0.0.1:$1" \
		--advertise-client-urls "http://127.0.0.1:$1" \
		--listen-peer-urls "http://127.0.0.1:$2" >./log/etcd.log 2>&1 &
	echo $! >single.pid
	url=http://127.0.0.1:$1
	wait_for 10 healthy "$url"
	check '{"action":"set","node":{"key":"/message","value":"Hello","modifiedIndex":4,"createdIndex":4}}' \
		curl -s -X PUT "$url/v2/keys/message" -d value=Hello
	check '{"action":"get","node":{"key":"/message","value":"Hello","modifiedIndex":4,"createdIndex":4}}' \
		curl -s "$url/v2/keys/message"
	check '{"action":"delete","node":{"key":"/message","modifiedIndex":5,"createdIndex":4},"prevNode":{"key":"/message","value":"Hello","modifiedIndex":4,"createdIndex":4}}' \
		curl -s -X DELETE "$url/v2/keys/message"
	stop single
}

write_conf() { # NUMBER ADDRESS
	cat >"conf$1.yml" <<-EOF
		name: etcd-$1  
		data-dir: $dir/data$1  
		listen-client-urls: http://$2:$client  
		advertise-client-urls: http://$2:$client  
		listen-peer-urls: http://$2:$peer  
		initial-advertise-peer-urls: http://$2:$peer  
		initial-cluster: etcd-1=http://127.0.0.1:$peer,etcd-2=http://127.0.0.2:$peer,etcd-3=http://127.0.0.3:$peer  
		initial-cluster-token: etcd-cluster-token  
		initial-cluster-state: new  
	EOF
}

member_line() { # NUMBER ADDRESS
	"$CTL" member list | grep -Ecx "[0-9a-f]+: name=etcd-$1 peerURLs=http://$2:$peer clientURLs=http://$2:$client isLeader=(true|false)"
}

three_nodes() {
	set -- $(ports 2)
	client=$1 peer=$2
	for i in 1 2 3; do
		write_conf $i 127.0.0.$i
		"$ETCD" --config-file="$dir/conf$i.yml" >etcd-$i.log 2>&1 &
		echo $! >etcd-$i.pid
	done
	for i in 1 2 3; do
		wait_for 20 healthy "http://127.0.0.$i:$client"
	done
	export ETCDCTL_ENDPOINTS="http://127.0.0.1:$client"

	check "$(printf 'etcdctl version: %s\nAPI version: %s' "$version" "${version%.*}")" "$CTL" version
	for i in 1 2 3; do
		check 1 member_line $i 127.0.0.$i
	done
	check 1 sh -c "'$CTL' member list | grep -c isLeader=true"
	check 3 sh -c "'$CTL' cluster-health | grep -c 'is healthy: got healthy result from http://127.0.0'"
	check 'cluster is healthy' sh -c "'$CTL' cluster-health | tail -n 1"

	check Hello "$CTL" set /message Hello
	check Hello "$CTL" get /message
	for i in 1 2 3; do
		check Hello "$CTL" --endpoints "http://127.0.0.$i:$client" get --quorum /message
	done
	check 'PrevNode.Value: Hello' "$CTL" rm /message

	# The transcript works with the variable that it tells to set, too.
	ETCDCTL_API=3
	export ETCDCTL_API
	check Hello "$CTL" set /message Hello
	check 'cluster is healthy' sh -c "'$CTL' cluster-health | tail -n 1"
	unset ETCDCTL_API
	for i in 1 2 3; do
		stop etcd-$i
	done
}

version=$("$ETCD" --version | sed -n 's/^etcd Version: //p')
single_node
three_nodes
finish
