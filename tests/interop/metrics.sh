#!/bin/sh
# /metrics of our server beside a real etcd's: the same names with the same types
# and words, but for what only a Go program or a bbolt file has; the same series
# of calls; and after the same session the same counts.
. "$(dirname "$0")/lib.sh"

# What we do not have, and why not.
absent='^(go_|promhttp_)'                                          # Go's runtime and its library
absent="$absent|^etcd_server_go_version"                           # likewise
absent="$absent|^etcd_grpc_proxy_"                                 # of the proxy, which is another program
absent="$absent|^etcd_debugging_disk_backend_commit_"              # phases of a bbolt transaction
absent="$absent|^etcd_debugging_mvcc_index_compaction_pause"       # there is one compaction, not two
absent="$absent|^etcd_debugging_snap_save_marshalling"             # snapshots are written as they are made
absent="$absent|^etcd_snap_db_|^etcd_server_snapshot_apply_in"     # likewise
absent="$absent|^etcd_debugging_store_reads_total"                 # shown once v2 keys were read, as theirs are at its start
absent="$absent|^etcd_disk_defrag_inflight|^etcd_mvcc_db_open_read" # nothing to defragment, no read transactions

# From dashboards, alerts and tests of etcd's own.
must='etcd_server_has_leader etcd_server_leader_changes_seen_total etcd_server_proposals_committed_total
	etcd_server_proposals_applied_total etcd_server_proposals_pending etcd_server_proposals_failed_total
	etcd_server_quota_backend_bytes etcd_server_version etcd_cluster_version etcd_disk_wal_fsync_duration_seconds
	etcd_disk_backend_commit_duration_seconds etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
	etcd_debugging_mvcc_db_total_size_in_bytes etcd_mvcc_put_total etcd_mvcc_delete_total etcd_mvcc_range_total
	etcd_mvcc_txn_total etcd_debugging_mvcc_put_total etcd_debugging_mvcc_delete_total etcd_debugging_mvcc_txn_total
	etcd_debugging_mvcc_keys_total etcd_network_client_grpc_received_bytes_total
	etcd_network_client_grpc_sent_bytes_total grpc_server_started_total grpc_server_handled_total
	grpc_server_handling_seconds process_resident_memory_bytes process_open_fds process_max_fds'

# Counts that must agree; each in the series' full name.
agree='^(etcd_(debugging_)?mvcc_(put|delete|txn)_total|etcd_debugging_mvcc_(keys_total|events_total|watcher_total|current_revision|compact_revision)|etcd_debugging_lease_|etcd_debugging_auth_revision|etcd_server_(client_requests|quota|has_leader|is_l|proposals_p|proposals_f|health)|etcd_network_client_grpc_received|etcd_mvcc_hash_(rev_)?duration_seconds_count|etcd_disk_backend_(defrag|snapshot)_duration_seconds_count|etcd_(cluster|server)_version|grpc_server_(started|msg_received|msg_sent)_total)'

ctl() {
	"$REAL_CTL" --endpoints "$client" "$@"
}

session() {
	for i in 1 2 3; do ctl put k$i v$i; done
	ctl get k1
	ctl get k --prefix
	ctl del k1
	printf '\nput k5 1\nget k2\ndel k2\n\n\n' | ctl txn
	printf 'mod("k5") > "0"\n\nget k2\n\n\n' | ctl txn
	lease=$(ctl lease grant 100 | awk '{print $2}')
	ctl lease keep-alive --once "$lease"
	ctl lease revoke "$lease"
	curl -s "$client/v3/kv/put" -d '{"key":"YQ==","value":"MQ=="}'
	ctl get nothing --rev 999
	ctl lease revoke 77
	ctl put '' x
	ctl user add ann:pw
	ctl user get nobody
	ctl alarm list
	ctl endpoint status
	ctl endpoint health
	ctl endpoint hashkv
	curl -s "$client/v3/maintenance/hash" -d '{}'
	ctl compaction 4
	ctl defrag
	ctl snapshot save snapshot.db
	timeout 1 "$REAL_CTL" --endpoints "$client" watch k --prefix --rev 5
	sleep 0.3
}

record() { # SERVER NAME
	serve default "$1" "$2.data" --metrics extensive
	curl -s "$client/metrics" >"$2.fresh"
	session >/dev/null 2>&1
	curl -s "$client/metrics" >"$2.used"
	stop default
	grep -E '^# (HELP|TYPE)' "$2.fresh" | awk -v absent="$absent" '$3 !~ absent' | sort >"$2.words"
	grep '^grpc_server' "$2.fresh" | sed 's/ [^ ]*$//' | sort >"$2.calls"
	grep -E "$agree" "$2.used" | sort >"$2.counts"
}

has() { # NAME: declared, and a sample of it
	grep -q "^# TYPE $1 " ours.used && grep -qE "^$1(_count|\{| )" ours.used
}

record "$REAL_ETCD" theirs
record "$top/etcd" ours
for what in words counts; do # without our own
	grep -vE 'etcd_network_peer_bad_messages_total|etcd_server_quota_warning' ours.$what >ours.known.$what
done
same 'names, types and words' theirs.words ours.known.words
same 'series of calls' theirs.calls ours.calls
same 'counts after a session' theirs.counts ours.known.counts
for name in $must; do
	ok "$name" has "$name"
done
finish
