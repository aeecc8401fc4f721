#!/bin/sh
# The HTTP/2 engine against a client that others wrote: curl, where it speaks
# HTTP/2. Bodies both ways, larger than any window. One request at a time: curl
# 7.88 cannot reuse a connection that it knew to be HTTP/2 beforehand.
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/lib.sh"

curl --version | grep -q HTTP2 || {
	echo "skipped: this curl does not speak HTTP/2"
	exit 0
}

# shellcheck disable=SC2046
set -- $(ports 1)
url=http://127.0.0.1:$1
"$top/$BUILD/tests/h2echo" "$1" 50 >h2echo.log 2>&1 &
echo $! >h2echo.pid

get() { # PATH ARGS...
	path=$1
	shift
	curl -s -m 20 --http2-prior-knowledge "$@" "$url$path"
}

wait_for 10 get /

check 'hello, world' get /
check '2 200' get / -o /dev/null -w '%{http_version} %{http_code}'
get / -D head -o /dev/null
check 'x-status: 0' sh -c "grep x-status head | tr -d '\r'"

# Down: much more than the windows.
get /bytes/30000000 >got
check 30000000 sh -c 'wc -c <got | tr -d " "'

# Up, and back.
head -c 3000000 /dev/urandom >sent
get /echo --data-binary @sent >got
check '' cmp sent got
check '' get /echo --data-binary ''

check '' cat h2echo.log
finish
