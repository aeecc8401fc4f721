#!/bin/sh
# Small and closed boxes: no /proc, /dev, /etc or home, a read-only root with
# one writable folder, a user without a name; kernels and sandboxes that refuse
# fallocate, locks, random bytes or IPv6; standard streams closed; a disk with no
# room for what a start needs. etcd either works there or says what is wrong. What needs rights (a mount namespace) or a
# compiler is left out, and said to be, where there are none.

# From here on in a mount namespace of our own, if the machine permits it.
if [ -z "${BOX:-}" ]; then
	for BOX in -m -rm; do
		export BOX
		unshare $BOX true 2>/dev/null && exec unshare $BOX sh "$0"
	done
	BOX=none
fi
. "$(dirname "$0")/lib.sh"

if [ -n "${SAN:-}" ]; then
	echo "skipped: the sanitizers need /proc and the symbols that this replaces"
	exit 0
fi
case $ETCD in
/*) real=$ETCD ;;
*) real=$top/$ETCD ;;
esac
set -- $(ports 2)
c=$1 p=$2
url=http://127.0.0.1:$c

node() { # DATA-DIR [LISTEN-CLIENT-URL]
	start m --data-dir "$1" --listen-client-urls "${2:-$url}" --advertise-client-urls "$url" \
		--listen-peer-urls "http://127.0.0.1:$p" --initial-advertise-peer-urls "http://127.0.0.1:$p" \
		--initial-cluster "m=http://127.0.0.1:$p"
}

# It must say this text, and end with status 1.
no_start() { # TEXT DATA-DIR [LISTEN-CLIENT-URL]
	text=$1
	shift
	rm -f m.log
	node "$@"
	wait_for 10 grep -qF "$text" m.log || kill "$(cat m.pid)"
	wait "$(cat m.pid)"
	check 1 echo $?
	rm -f m.pid
}

put() { # VALUE
	curl -s -o put.out -w '%{http_code}' -X PUT -d "value=$1" "$url/v2/keys/box"
}

get() {
	curl -s "$url/v2/keys/box" | sed 's/.*"value":"\([^"]*\)".*/\1/'
}

# Writes, a kill, a restart, and what was written is there.
works() { # DATA-DIR [LISTEN-CLIENT-URL]
	node "$@"
	wait_for 10 healthy "$url"
	check 201 put first
	check 200 put second
	stop m KILL
	node "$@"
	wait_for 10 healthy "$url"
	check second get
	stop m
}

# --- Standard streams that are closed. ------------------------------------

streams() {
	readlink "/proc/$1/fd/0" "/proc/$1/fd/1" "/proc/$1/fd/2" | sort -u
}

closed_streams() {
	ETCD=$dir/closed
	printf '#!/bin/sh\nexec "%s" "$@" <&- >&- 2>&-\n' "$real" >"$ETCD"
	chmod +x "$ETCD"
	node "$dir/closed.etcd"
	wait_for 10 healthy "$url"
	check 201 put one
	[ -d /proc/self/fd ] && check /dev/null streams "$(cat m.pid)"
	stop m
}

# --- Calls that are refused. ----------------------------------------------

make_refuser() {
	cat >refuse.c <<-'END'
		#include <errno.h>
		#include <stdlib.h>
		#include <string.h>
		#include <sys/socket.h>
		#include <sys/syscall.h>
		#include <sys/types.h>
		#include <unistd.h>

		static int refused(const char *call, int with)
		{
			const char *list = getenv("REFUSE");

			errno = with;
			return list && strstr(list, call) ? -1 : 0;
		}

		int fallocate(int fd, int mode, off_t from, off_t n)
		{
			(void)fd, (void)mode, (void)from, (void)n;
			return refused("fallocate-eperm", EPERM) | refused("fallocate", EOPNOTSUPP);
		}

		int fallocate64(int fd, int mode, off_t from, off_t n)
		{
			return refused("fallocate-eperm", EPERM) ? -1 : fallocate(fd, mode, from, n);
		}

		int flock(int fd, int how)
		{
			return refused("flock", ENOLCK) ? -1 : (int)syscall(SYS_flock, fd, how);
		}

		ssize_t getrandom(void *p, size_t n, unsigned flags)
		{
			return refused("getrandom", ENOSYS) ? -1 : syscall(SYS_getrandom, p, n, flags);
		}

		int socket(int domain, int type, int protocol)
		{
			if (domain == AF_INET6 && refused("ipv6", EAFNOSUPPORT))
				return -1;
			return (int)syscall(SYS_socket, domain, type, protocol);
		}
	END
	"${CC:-cc}" -D_GNU_SOURCE -shared -fPIC -o refuse.so refuse.c 2>refuse.err
}

refuse() { # LIST: from now on
	printf '#!/bin/sh\nREFUSE=%s LD_PRELOAD="%s" exec "%s" "$@"\n' "$1" "$dir/refuse.so" "$real" >refuser
	chmod +x refuser
	ETCD=$dir/refuser
}

refused_calls() {
	refuse fallocate
	works "$dir/no-fallocate.etcd"
	refuse fallocate-eperm
	works "$dir/eperm.etcd"
	refuse flock
	no_start "cannot lock data directory $dir/no-locks.etcd/member: no locks available" "$dir/no-locks.etcd"
	refuse getrandom
	works "$dir/urandom.etcd"
	refuse ipv6
	works "$dir/no-ipv6.etcd" "http://[::]:$c"
	no_start "listen tcp [::1]:$c: socket: address family not supported by protocol" "$dir/no-ipv6.etcd" "http://[::1]:$c"
}

# --- A root with next to nothing in it. -----------------------------------

# The program, the libraries that it names, and /data, of a kind of file system
# that can neither preallocate nor tell holes; nothing else can be written.
make_root() {
	mkdir -p root/data
	cp "$real" root/etcd
	ln root/etcd root/etcdctl
	for lib in $(ldd "$real" 2>/dev/null | grep -o '/[^ )]*'); do
		mkdir -p "root${lib%/*}"
		cp "$lib" "root$lib"
	done
	[ -f refuse.so ] && cp refuse.so root/
	trap 'umount -l "$dir/root/data" "$dir/root" 2>/dev/null; cleanup' EXIT
	mount --bind root root && mount -t ramfs -o mode=0777 none root/data && mount -o remount,bind,ro root
}

boxed() { # [VARIABLE=VALUE...]: run etcd so, from now on
	printf '#!/bin/sh\nexec env -i %s "%s" %s "%s" /etcd "$@"\n' "$*" "$(command -v chroot)" "$user" "$dir/root" >boxed
	chmod +x boxed
	ETCD=$dir/boxed
}

ctl_in_root() {
	chroot $user "$dir/root" /etcdctl --endpoints "http://localhost:$c" "$@"
}

bare_root() {
	user=--userspec=12345:54321
	chroot $user root /etcdctl --version >/dev/null 2>&1 || user=
	boxed
	works /data/m
	no_start "cannot access data directory: mkdir /m: read-only file system" /m

	node /data/m
	wait_for 10 healthy "$url"
	check second ctl_in_root get box # localhost, without /etc/hosts
	curl -s "$url/metrics" | grep -q '^etcd_server_has_leader 1' || check "a metrics page" echo none
	first=$(cat m.pid)
	set -- $(ports 2)
	p=$2
	no_start 'data directory "/data/m" is in use by another etcd process: stop that one' /data/m "http://127.0.0.1:$1"
	echo "$first" >m.pid
	stop m
	if [ -f root/refuse.so ]; then
		boxed LD_PRELOAD=/refuse.so REFUSE=getrandom
		no_start 'no random bytes' /data/new
	fi
}

# --- A full disk. ---------------------------------------------------------

small_disk() { # BYTES
	mkdir -p disk
	umount disk 2>/dev/null
	mount -t tmpfs -o "size=$1" none disk
}

fill() { # BYTES that stay free
	free=$(($(stat -f -c %a disk) * $(stat -f -c %S disk)))
	head -c $((free - $1)) /dev/zero >disk/fill
}

full_disk() {
	ETCD=$real
	log=0000000000000000-0000000000000000.wal
	wal=$dir/disk/m/member/wal
	trap 'umount -l "$dir/disk" 2>/dev/null; cleanup' EXIT
	small_disk 50500000
	no_start "preallocate $wal.tmp/$log: no space left on device: up to 64 MB must be free in $wal.tmp, where 50 are" "$dir/disk/m"

	# A log that an older process, or a copy, left without its spare room.
	small_disk 90000000
	node "$dir/disk/m"
	wait_for 10 healthy "$url"
	check 201 put first
	stop m
	truncate -s 1000000 "$wal/$log"
	fill 40500000
	no_start "preallocate $wal/$log: no space left on device: up to 63 MB must be free in $wal, where 40 are" "$dir/disk/m"
	rm disk/fill
	node "$dir/disk/m"
	wait_for 10 healthy "$url"
	check first get

	# A torn write: a sector of the last record was never written.
	check 200 put "$(head -c 3000 /dev/zero | tr '\0' x)"
	stop m KILL
	at=$(grep -abo 'x\{2500\}' "$wal/$log" | cut -d: -f1)
	dd if=/dev/zero of="$wal/$log" bs=512 seek=$((at / 512 + 2)) count=1 conv=notrunc 2>dd.log
	fill 0
	no_start "copy $wal/$log to $wal/$log.broken: no space left on device: up to 64 MB must be free in $wal, where 0 are" "$dir/disk/m"
	check '' find "$wal" -name '*.broken'
	rm disk/fill
	node "$dir/disk/m"
	wait_for 10 healthy "$url"
	check first get
	check "$wal/$log.broken" find "$wal" -name '*.broken'
	stop m
	umount disk
}

closed_streams
if [ "$BOX" = none ]; then
	echo "skipped: a full disk: no right to make a mount namespace"
elif ! small_disk 4096 2>mount.err; then
	echo "skipped: a full disk: $(tail -n 1 mount.err)"
else
	full_disk
fi
if ! make_refuser; then
	echo "skipped: refused calls: no compiler"
elif ldd "$real" >/dev/null 2>&1; then
	refused_calls
else
	echo "skipped: refused calls: $real is static"
	rm refuse.so
fi
if [ "$BOX" = none ]; then
	echo "skipped: a bare root: no right to make a mount namespace"
elif ! make_root 2>mount.err; then
	echo "skipped: a bare root: $(tail -n 1 mount.err)"
else
	bare_root
fi
finish
