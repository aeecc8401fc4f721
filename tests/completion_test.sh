#!/bin/sh
# The completion scripts of etcdctl and etcdutl, in bash, and in zsh where it is
# there.
. "$(dirname "$0")/lib.sh"
UTL=${UTL:-$top/etcdutl}
command -v bash >/dev/null || { echo 'skipped: no bash'; exit 0; }

"$CTL" completion bash >ctl.bash || failed=1
"$UTL" completion bash >utl.bash || failed=1

completed() { # SCRIPT FUNCTION WORDS...: what the last word is completed to
	bash -c '. "./$1"; f=$2; shift 2; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); $f; echo "${COMPREPLY[*]}"' bash "$@"
}

ctl() {
	completed ctl.bash _etcdctl etcdctl "$@"
}

utl() {
	completed utl.bash _etcdutl etcdutl "$@"
}

check 'make-mirror member migrate move-leader' ctl m
check 'add list promote remove update' ctl member ''
check 'list' ctl --endpoints 127.0.0.1:2379 member l
check '--peer-urls --password' ctl member add x --p
check '--prefix --print-value-only --password' ctl get --p
check 'zsh' ctl completion z
check '' ctl put key pu
check 'restore status' utl snapshot ''
check '--data-dir' utl defrag --da
check 'complete -o default -F _etcdctl etcdctl' bash -c '. ./ctl.bash; complete -p etcdctl'

if command -v zsh >/dev/null; then
	"$CTL" completion zsh >ctl.zsh
	check '' zsh -n ctl.zsh
fi
finish
