#!/usr/bin/env python3
"""chaos.py - faults on real processes, under clients whose history is judged.

    python3 tests/chaos/chaos.py --seconds 300          mixed faults
    python3 tests/chaos/chaos.py --rounds 200 --only kill
    python3 tests/chaos/chaos.py --tls                  all by certificate

Needs ./etcd and the tools of `make tests`, for --tls also openssl. As root, with /dev/net/tun, each
member lives in a network namespace of its own and wire.c is the network;
otherwise all are on 127.0.0.1, and partitions, delays and full disks are left
out. What is done is drawn from --seed. A run is made of segments: clients
write and read while faults come and go; then all is healed, the members must
become healthy and hold the same, and judge.c judges what the clients saw.
Ends with a line of counts; exit status 0 if nothing was lost or stale. After a
failure the folder with history, logs and data stays. checks.py tries what has a
load of its own.

No member, namespace or mount outlives this process, even if it is killed.
"""
import argparse
import collections
import ctypes
import hashlib
import http.client
import json
import mmap
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

from certs import Certificates

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG = 1
TMPFS_MB = 300  # of the members with a small disk
SEGMENT_S = 40
HEAL_S = 90     # within this all members must be healthy and alike
CATCHUP = ["--snapshot-count", "700", "--snapshot-catchup-entries", "150"]
FAST = ["--heartbeat-interval", "50", "--election-timeout", "500"]

libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """What must hold does not."""


class Undecided(Exception):
    """This machine is too busy to tell: exit status 3."""


def say(text):
    print(text, flush=True)


def syscall(rc, what):
    if rc < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def enter(namespace):
    fd = os.open(namespace, os.O_RDONLY)
    syscall(libc.setns(fd, CLONE_NEWNET), "setns")
    os.close(fd)


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def wait_for(what, seconds, condition):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = condition()
        if got:
            return got
        time.sleep(0.1)
    raise Failure(f"not within {seconds} s: {what}")


class Wire:
    """The switch between the namespaces (wire.c); port 0 is the clients'."""

    def __init__(self, tool, ports, seed):
        self.process = subprocess.Popen([tool, str(ports), str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        fields = self.process.stdout.readline().split()
        if len(fields) != ports + 1:
            raise OSError("wire.c could not set up its namespaces")
        self.namespaces = [f"/proc/{fields[0]}/fd/{fd}" for fd in fields[1:]]
        self.ports = ports

    def command(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def link(self, a, b, delay_ms=0.0, jitter_ms=0.0, loss=0):
        self.command(f"link {a} {b} {int(delay_ms * 1000)} {int(jitter_ms * 1000)} {loss}")

    def cut(self, a, b):
        self.link(a, b, loss=1000)


class Control:
    """The file through which faults.c is told what to do."""

    FORMAT = {"delay_ms": (0, "i"), "fail_syncs": (4, "i"), "no_prealloc": (8, "i"), "clock_ns": (16, "q"), "syncs": (24, "Q"),
              "log_inode": (32, "Q"), "log_synced": (40, "q")}

    def __init__(self, path):
        with open(path, "wb") as f:
            f.write(bytes(4096))
        self.path = path
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)

    def set(self, name, value):
        at, form = self.FORMAT[name]
        struct.pack_into(form, self.map, at, value)

    def get(self, name):
        at, form = self.FORMAT[name]
        return struct.unpack_from(form, self.map, at)[0]


class Member:
    def __init__(self, cluster, slot):
        self.cluster, self.slot, self.name = cluster, slot, f"n{slot}"
        self.data = os.path.join(cluster.dir, self.name)
        os.mkdir(self.data)
        self.control = Control(os.path.join(cluster.dir, self.name + ".faults"))
        self.wire_port = slot + 1
        if cluster.wire:
            host = f"10.99.0.{slot + 2}"
            self.client, self.peer = f"{host}:2379", f"{host}:2380"
        else:
            self.client, self.peer = (f"127.0.0.1:{port}" for port in free_ports(2))
        scheme = "https" if cluster.certs else "http"
        self.client_url, self.peer_url = f"{scheme}://{self.client}", f"{scheme}://{self.peer}"
        if cluster.certs:
            cluster.certs.leaf(self.name, self.client.split(":")[0])
        self.small_disk = False
        self.process = None
        self.started = 0
        self.paused = False
        self.wanted = False    # should run
        self.may_end = False   # by a fault of its disk
        self.joining = None    # --initial-cluster of one that was added
        self.place = "out"     # of the spare: out, adding, in, removing; the
                               # middle ones: nobody knows yet

    def start(self, state=None):
        args = [self.cluster.etcd, "--name", self.name, "--data-dir", os.path.join(self.data, "d"),
                "--listen-client-urls", self.client_url, "--advertise-client-urls", self.client_url,
                "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
                "--initial-cluster", self.joining or self.cluster.initial,
                "--initial-cluster-state", state or ("existing" if self.joining else "new"),
                "--max-wals", "1", "--max-snapshots", "2", "--strict-reconfig-check=false"] + self.cluster.args
        if self.cluster.certs:
            args += self.cluster.certs.flags(self.name)
        env = dict(os.environ, LD_PRELOAD=self.cluster.faults, CHAOS_FAULTS=self.control.path)
        namespace = self.cluster.wire.namespaces[self.wire_port] if self.cluster.wire else None

        def child():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if namespace:
                enter(namespace)

        self.started = now_ns()
        self.wanted, self.paused = True, False
        with open(os.path.join(self.cluster.dir, self.name + ".log"), "ab") as log:
            self.process = subprocess.Popen(args, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=child)

    def running(self):
        return self.process is not None and self.process.poll() is None

    def ended(self):
        """Its process has been waited for: put down its life."""
        self.cluster.lives.append((self.slot, self.started, now_ns()))
        status, self.process = self.process.returncode, None
        return status

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.ended()

    def pause(self, on):
        if self.running():
            self.process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)
            self.paused = on

    def get(self, path, method="GET", body=None, timeout=3):
        """Status, headers and body; None if there is no answer."""
        host, port = self.client.split(":")
        certs = self.cluster.certs
        c = (http.client.HTTPSConnection(host, int(port), timeout=timeout, context=certs.context) if certs else
             http.client.HTTPConnection(host, int(port), timeout=timeout))
        try:
            c.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            c.close()

    def json(self, path, **kw):
        r = self.get(path, **kw)
        try:
            return json.loads(r[2]) if r else None
        except ValueError:
            return None

    def healthy(self):
        h = self.json("/health", timeout=2)
        return bool(h) and h.get("health") == "true"

    def leads(self):
        me = self.json("/v2/stats/self", timeout=1)
        return bool(me) and me.get("state") == "StateLeader"

    def metric(self, name):
        r = self.get("/metrics")
        for line in r[2].decode().splitlines() if r else ():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None


def free_ports(n):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Cluster:
    def __init__(self, options, directory, n, args):
        self.dir, self.args = directory, args
        self.etcd = os.path.abspath(options.etcd)
        self.tools = os.path.abspath(options.tools)
        self.faults = self.tool("faults.so")
        self.lives = []  # (slot, start, end)
        self.ends = 0    # of members, by themselves, for a fault
        self.wire = None
        self.mounts = False
        self.certs = Certificates(os.path.join(directory, "certs")) if options.tls else None
        self.try_wire(n + 2, options.seed)
        self.all = [Member(self, slot) for slot in range(n + 1)]
        self.members, self.spare = self.all[:n], self.all[n]
        self.initial = ",".join(f"{m.name}={m.peer_url}" for m in self.members)

    def tool(self, name):
        path = os.path.join(self.tools, name)
        if not os.path.exists(path):
            sys.exit(f"chaos: {path} is not there: run make tests")
        return path

    def start_client(self, args, **options):
        """client.c, as long as this process lives."""
        child = lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        env = dict(os.environ, CHAOS_CERTS=self.certs.dir if self.certs else "")
        return subprocess.Popen([self.tool("client")] + args, env=env, preexec_fn=child, **options)

    def try_wire(self, ports, seed):
        if os.geteuid() != 0:
            say("left out: partitions, delay, full disk (they need root)")
            return
        try:
            syscall(libc.unshare(CLONE_NEWNS), "unshare")
            syscall(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount")
            self.mounts = True
        except OSError as e:
            say(f"left out: full disk ({e})")
        try:
            self.wire = Wire(self.tool("wire"), ports, seed)
            enter(self.wire.namespaces[0])
        except OSError as e:
            say(f"left out: partitions, delay ({e})")
            self.wire = None

    def give_small_disk(self, member):
        """One that is on a RAM disk, and takes its space when it writes."""
        options = f"size={TMPFS_MB}m".encode()
        syscall(libc.mount(b"tmpfs", member.data.encode(), b"tmpfs", 0, options), "mount")
        member.small_disk = True
        member.control.set("no_prealloc", 1)

    def active(self):
        return [m for m in self.all if m.wanted]

    def up(self):
        return [m for m in self.active() if m.running() and not m.paused]

    def leader(self):
        return next((m for m in self.up() if m.leads()), None)

    def wait_healthy(self):
        for m in self.active():
            wait_for(f"{m.name} is healthy", HEAL_S, lambda: self.revive() or m.healthy())

    def revive(self, busy=()):
        """Start again who ended by a fault; nobody else may have ended."""
        for m in self.active():
            if m.process and m.process.poll() is not None:
                status = m.ended()
                if not m.may_end or status not in (0, 1):
                    raise Failure(f"{m.name} ended by itself with status {status}")
                self.ends += 1
            if m.process is None and m not in busy and m.place != "removing" and now_ns() - m.started > 5e8:
                m.start()

    def stop(self):
        for m in self.all:
            m.kill()

    def write_lives(self, path):
        with open(path, "w") as f:
            for life in self.lives:
                f.write("%d %d %d\n" % life)
            for m in self.all:
                if m.process:
                    f.write(f"{m.slot} {m.started} 0\n")

    def tree(self, member, path):
        """Index and digest of what a member holds, as its own store has it."""
        r = member.get(f"/v2/keys{path}?recursive=true&sorted=true", timeout=10)
        if not r or r[0] not in (200, 404):
            return None
        return r[1]["X-Raft-Index"], r[1]["X-Etcd-Index"], hashlib.sha256(r[2] if r[0] == 200 else b"").hexdigest()

    def agreed(self, path):
        got = set()
        for m in self.active():
            if not m.get(f"/v2/keys{path}?quorum=true", timeout=10):
                return None
            got.add(self.tree(m, path))
        return got.pop() if len(got) == 1 else None

    def wait_agreed(self, path="/chaos"):
        # At one raft index they must be equal; which one may still move.
        def once():
            at = collections.defaultdict(set)
            for m in self.active():
                t = self.tree(m, path)
                if t:
                    at[t[0]].add(t[1:])
            if any(len(v) > 1 for v in at.values()):
                raise Failure(f"members differ at one index: {dict(at)}")
            return self.agreed(path)
        return wait_for("all members hold the same", HEAL_S, once)[2]


# --- Faults. Each is a generator: what stands before the yield begins it, what
# stands behind ends it; it yields what it is and how long it lasts. None is
# begun on a member that another one has in hand (`busy`).

class Faults:
    def __init__(self, cluster, rng):
        self.cluster, self.rng = cluster, rng
        self.busy = set()
        self.count = collections.Counter()

    def usable(self, name):
        if name == "renew":
            return self.cluster.certs is not None
        if name in ("partition", "delay"):
            return self.cluster.wire is not None
        if name == "full":
            return any(m.small_disk for m in self.cluster.all)
        return True

    def free(self):
        return [m for m in self.cluster.up() if m not in self.busy]

    def pick(self, at_most):
        """Some who run: one, the leader, several, or all. The draw does not
        depend on who leads or runs."""
        kind = self.rng.choice(["one", "one", "leader", "leader", "some", "all"])
        order = self.rng.random()
        number = self.rng.randint(1, 5)
        free = self.free()
        if not free:
            return []
        random.Random(order).shuffle(free)
        if kind == "leader":
            leader = self.cluster.leader()
            return [leader] if leader in free else free[:1]
        n = {"one": 1, "some": number, "all": len(free)}[kind]
        return free[:min(n, at_most)]

    def minority(self):
        return max(1, (len(self.cluster.members) - 1) // 2)

    def run(self, name):
        return getattr(self, name)()

    def kill(self):
        victims = self.pick(9)
        pause = self.rng.uniform(0, 1.2)
        for m in victims:
            m.process.kill()
        for m in victims:
            m.process.wait()
            m.ended()
        self.count["kills"] += len(victims)
        self.busy.update(victims)
        yield f"kill -9 {names(victims)}", pause
        for m in victims:
            m.start()

    def power(self):
        """Like kill, but what no sync had put on the disk is gone, or torn."""
        rng, victims = self.rng, self.pick(9)
        pause, torn = rng.uniform(0, 1.2), rng.randrange(3)
        twice, wait, wait_again = rng.random() < 0.4, rng.uniform(0.1, 0.5), rng.uniform(0.02, 0.3)
        for m in victims:  # so that it comes in the middle of a sync
            m.control.set("delay_ms", rng.choice([10, 50, 150]))
        time.sleep(wait)
        if twice:  # who starts again finds what is not on the disk yet
            for m in victims:
                m.kill()
                m.start()
            time.sleep(wait_again)
        victims = [m for m in victims if m.running()]
        for m in victims:
            m.process.kill()
        for m in victims:
            m.process.wait()
            m.ended()
            m.control.set("delay_ms", 0)
        self.count["power-cuts"] += len(victims)
        self.busy.update(victims)
        lost = [lose_unsynced(m, self.rng, torn) for m in victims]
        yield f"{'kill, start, ' if twice else ''}power cut {names(victims)}, {sum(lost)} bytes lost", pause
        self.count["power-cut-bytes"] += sum(lost)
        for m in victims:
            m.start()

    def stop(self):
        victims = self.pick(9)
        pause = self.rng.uniform(0.1, 3)
        for m in victims:
            m.pause(True)
        self.count["stops"] += len(victims)
        self.busy.update(victims)
        yield f"SIGSTOP {names(victims)}", pause
        for m in victims:
            m.pause(False)

    def partition(self):
        wire, rng = self.cluster.wire, self.rng
        kind = rng.choice(["leader", "leader deaf", "leader dumb", "split", "one way", "ring", "clients"])
        pause, n = rng.uniform(0.5, 4), self.minority()
        order = [m.wire_port for m in self.cluster.all]
        rng.shuffle(order)
        if kind.startswith("leader"):
            leader = self.cluster.leader()
            if leader:
                order.remove(leader.wire_port)
                order.insert(0, leader.wire_port)
            n = 1
        left, right = order[:n], order[n:]
        if kind == "clients":
            right = [0]
        for a in left:
            for b in right:
                if kind not in ("leader deaf", "one way"):
                    wire.cut(a, b)
                if kind != "leader dumb":
                    wire.cut(b, a)
        if kind == "ring":  # each hears only some
            for i, a in enumerate(order):
                wire.cut(a, order[i - 1])
        self.count["partitions"] += 1
        yield f"partition ({kind}) {left} from {right}", pause
        wire.command("heal")

    def delay(self):
        wire, rng = self.cluster.wire, self.rng
        pause = rng.uniform(1, 4)
        delay, jitter = rng.choice([0, 2, 10, 40, 120]), rng.choice([0, 2, 10, 80])
        loss = rng.choice([0, 0, 5, 30, 150])
        some = rng.random() < 0.5
        for a in range(wire.ports):
            for b in range(wire.ports):
                if a != b and (not some or rng.random() < 0.3):
                    wire.link(a, b, delay, jitter, loss)
        self.count["delays"] += 1
        yield f"delay {delay}+{jitter} ms, {loss / 10} % lost{', some links' if some else ''}", pause
        wire.command("heal")

    def full(self):
        m = self.rng.choice([m for m in self.cluster.all if m.small_disk])
        pause, spare = self.rng.uniform(1, 4), self.rng.choice([0, 0, 4096, 65536])
        filler = os.path.join(m.data, "filler")
        m.may_end = True
        fill(filler, spare)
        self.count["full-disks"] += 1
        yield f"disk of {m.name} full", pause
        os.unlink(filler)

    def slow(self):
        victims = self.pick(9)
        pause, ms = self.rng.uniform(1, 4), self.rng.choice([20, 150, 150, 400])
        for m in victims:
            m.control.set("delay_ms", ms)
        self.count["slow-disks"] += len(victims)
        yield f"syncs of {names(victims)} take {ms} ms", pause
        for m in victims:
            m.control.set("delay_ms", 0)

    def failsync(self):
        victims = self.pick(self.minority())
        for m in victims:
            m.may_end = True
            m.control.set("fail_syncs", 1)
        self.busy.update(victims)
        yield f"next sync of {names(victims)} fails", 1.0
        for m in victims:
            if m.control.get("fail_syncs") == 0:
                # It must not go on as if nothing had happened.
                wait_for(f"{m.name} ends after a failed sync", 10, lambda m=m: not m.running())
                self.count["failed-syncs"] += 1
            m.control.set("fail_syncs", 0)

    def clock(self):
        victims = self.pick(9)
        seconds = self.rng.choice([-86400, -7200, -1, 1, 7200, 86400]) * self.rng.uniform(0.5, 1)
        for m in victims:
            m.control.set("clock_ns", int(seconds * 1e9))
        self.count["clock-jumps"] += len(victims)
        yield f"clock of {names(victims)} {seconds:+.0f} s", self.rng.uniform(0.5, 3)
        if self.rng.random() < 0.7:
            for m in victims:
                m.control.set("clock_ns", 0)

    def fds(self):
        victims, pause = self.pick(9)[:2], self.rng.uniform(1, 3)
        held, limits = [], []
        spare = self.rng.choice([0, 3, 20])
        for m in victims:
            n = len(os.listdir(f"/proc/{m.process.pid}/fd")) + spare
            pid = m.process.pid
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (n, hard))
            limits.append((m, pid, soft, hard))
            for _ in range(60):
                s = socket.socket()
                s.setblocking(False)
                host, port = m.client.split(":")
                s.connect_ex((host, int(port)))
                held.append(s)
        # One that cannot open its next segment ends; that is its right.
        for m in victims:
            m.may_end = True
        self.count["fd-famines"] += len(victims)
        yield f"no descriptors left for {names(victims)}", pause
        for s in held:
            s.close()
        for m, pid, soft, hard in limits:
            if m.running() and m.process.pid == pid:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

    def renew(self):
        """A new key, and a while later the certificate that it fits."""
        certs, free = self.cluster.certs, self.free()
        pause = self.rng.uniform(0, 2.5)
        victims = [free[int(self.rng.random() * len(free))]] if free else []
        self.busy.update(victims)
        for m in victims:
            certs.leaf(f"{m.name}-new", m.client.split(":")[0])
            os.rename(certs.path(f"{m.name}-new.key"), certs.path(f"{m.name}.key"))
        self.count["renewals"] += len(victims)
        yield f"new key for {names(victims)}", pause
        for m in victims:
            os.rename(certs.path(f"{m.name}-new.pem"), certs.path(f"{m.name}.pem"))

    def member(self):
        spare, at = self.cluster.spare, self.rng.random()
        ask = [m for m in self.free() if m is not spare]
        if not ask or spare in self.busy or spare.place in ("adding", "removing"):
            yield "membership: nobody to ask", 0
            return
        ask = ask[int(at * len(ask))]
        if spare.place == "out":
            yield f"add {spare.name}: {add_member(ask, spare)}", 1.0
            self.count["additions"] += spare.place == "in"
        else:
            yield f"remove {spare.name}: {remove_member(ask, spare)}", 1.0
            self.count["removals"] += spare.place == "out"


def names(members):
    return " ".join(m.name for m in members) or "nobody"


def lose_unsynced(m, rng, torn):
    """Put zeros where the log was not synced; torn 0: everywhere, else only in
    some of the sectors. Returns how many bytes that were not zeros are lost."""
    folder, lost = os.path.join(m.data, "d", "member", "wal"), 0
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if os.stat(path).st_ino != m.control.get("log_inode"):
            continue
        with open(path, "r+b") as f:
            at = f.seek(m.control.get("log_synced"))
            rest = f.read(1 << 20)  # more is never under way
            while rest:
                n = 512 - at % 512
                sector, rest = rest[:n], rest[n:]
                if sector.strip(b"\0") and (not torn or rng.random() < 0.5):
                    lost += len(sector.strip(b"\0"))
                    f.seek(at)
                    f.write(bytes(len(sector)))
                at += n
    return lost


def fill(path, spare):
    """Take what space there is, but for `spare` bytes."""
    with open(path, "wb", buffering=0) as f:
        s = os.statvfs(os.path.dirname(path))
        left = s.f_bavail * s.f_frsize - spare
        block = bytes(1 << 20)
        try:
            while left > 0:
                left -= f.write(block[:left])
        except OSError:
            pass


# --- Membership. An answer that does not come leaves a doubt, which settle()
# clears up when all is healed: a member's data must not be wiped while it still
# counts as one, and two changes must not be under way at once.

def add_member(ask, m):
    r = ask.get("/v2/members", method="POST", body=json.dumps({"peerURLs": [m.peer_url]}), timeout=10)
    m.place = "adding"
    if r and r[0] == 201:
        join(m)
    elif r and r[0] < 500:
        m.place = "out"
    return m.place


def join(m):
    """It is a member now, and was never started as this one."""
    shutil.rmtree(os.path.join(m.data, "d"), ignore_errors=True)
    m.joining = f"{m.cluster.initial},{m.name}={m.peer_url}"
    m.place, m.may_end = "in", True  # it may find nobody to ask, and end
    m.start()


def remove_member(ask, m):
    m.place, m.may_end = "removing", True
    listed = listed_id(ask, m)
    r = listed and ask.get(f"/v2/members/{listed}", method="DELETE", timeout=10)
    if r and r[0] in (204, 410):
        leave(m)
    return m.place


def leave(m):
    m.place, m.wanted = "out", False
    m.kill()


def listed_id(ask, m):
    """Its id as `ask` knows it; '' if it is not a member, None: no answer."""
    listed = ask.json("/v2/members", timeout=5)
    if not listed or "members" not in listed:
        return None
    return next((x["id"] for x in listed["members"] if m.peer_url in x["peerURLs"]), "")


def settle(cluster):
    m = cluster.spare
    if m.place not in ("adding", "removing"):
        return True
    ask = next((x for x in cluster.up() if x is not m and x.healthy()), None)
    if not ask:
        return False
    r = ask.get("/v2/keys/?quorum=true", timeout=10)  # now its list is not old
    listed = listed_id(ask, m) if r and r[0] == 200 else None
    if listed is None:
        return False
    if listed and m.place == "adding":
        join(m)
    elif listed:
        m.place = "in"
    elif m.place == "adding":
        m.place = "out"
    else:
        leave(m)
    return True


# --- A run. ---------------------------------------------------------------------

WEIGHTS = {"kill": 4, "power": 4, "stop": 4, "partition": 5, "delay": 3, "full": 2, "slow": 3, "failsync": 3, "clock": 2, "fds": 1,
           "member": 2, "renew": 2}
APART = {"partition": "wire", "delay": "wire"}  # two of these would undo each other


Fault = collections.namedtuple("Fault", "kind steps rng end next_at busy")


class Run:
    def __init__(self, options, directory):
        self.options, self.dir = options, directory
        self.cluster = Cluster(options, directory, options.members, CATCHUP + FAST + options.args.split())
        if self.cluster.mounts:
            for m in self.cluster.members[:2]:
                self.cluster.give_small_disk(m)
        self.faults = Faults(self.cluster, random.Random(options.seed))
        self.kinds = [k for k in (options.only.split(",") if options.only else WEIGHTS) if self.faults.usable(k)]
        if not self.kinds:
            sys.exit("chaos: none of these faults can be had here")
        self.number = 0     # of faults
        self.segments = 0
        self.digests = {}   # of what earlier segments left
        self.totals = collections.Counter()
        self.began = time.monotonic()

    def over(self):
        if self.options.rounds:
            return self.number >= self.options.rounds
        return time.monotonic() - self.began >= self.options.seconds

    def start_client(self, command, name):
        args = [command, os.path.join(self.dir, name + ".history"), name,
                str(self.options.seed * 1000 + self.segments), str(self.options.threads), str(self.options.rate)]
        return self.cluster.start_client(args + [m.client_url for m in self.cluster.all])

    def begin_fault(self, under_way):
        """The next one; every draw comes from the seed and its number. None:
        it has to wait for the end of another."""
        self.faults.rng = rng = random.Random(f"{self.options.seed}/{self.number}")
        kind = rng.choices(self.kinds, [WEIGHTS[k] for k in self.kinds])[0]
        together, gap = rng.random() < 0.3, rng.choice([0.2, 0.5, 1.5])
        if APART.get(kind, kind) in (APART.get(f.kind, f.kind) for f in under_way):
            return None
        busy = set(self.faults.busy)
        self.number += 1
        steps = self.faults.run(kind)
        what, lasts = next(steps)
        if self.options.verbose:
            say(f"  {time.monotonic() - self.began:7.1f} {what} ({lasts:.1f} s)")
        end = time.monotonic() + lasts
        return Fault(kind, steps, rng, end, (time.monotonic() if together else end) + gap, self.faults.busy - busy)

    def end_fault(self, f):
        self.faults.rng = f.rng
        for _ in f.steps:
            pass
        self.faults.busy -= f.busy

    def mix(self, until):
        """Faults one after another, now and then two at once."""
        under_way, next_at = [], time.monotonic() + 0.5
        while True:
            now = time.monotonic()
            for f in [f for f in under_way if f.end <= now]:
                under_way.remove(f)
                self.end_fault(f)
            if now >= until or self.over():
                if not under_way:
                    return
            elif now >= next_at and len(under_way) < 2:
                f = self.begin_fault(under_way)
                if f:
                    under_way.append(f)
                    next_at = f.next_at
            self.cluster.revive(self.faults.busy)
            time.sleep(0.05)

    def heal(self):
        c = self.cluster
        if c.wire:
            c.wire.command("heal")
        for m in c.all:
            m.pause(False)
            for name in ("delay_ms", "fail_syncs", "clock_ns"):
                m.control.set(name, 0)
        wait_for("membership is settled", HEAL_S, lambda: c.revive() or settle(c))
        c.wait_healthy()
        for m in c.all:
            m.may_end = False

    def segment(self):
        name = f"s{self.segments}"
        clients = [self.start_client("record", name), self.start_client("record3", name + "-v3")]
        try:
            self.mix(time.monotonic() + SEGMENT_S)
            self.heal()
            for client in clients:
                client.terminate()
            for client in clients:
                if client.wait(120) != 0:
                    raise Failure(f"the clients could not read all keys in the end: status {client.returncode}")
        finally:
            for client in clients:
                client.kill()
                client.wait()
        self.cluster.wait_agreed()
        self.judge(name)
        self.judge(name + "-v3")
        self.check_earlier(name)
        self.segments += 1

    def judge(self, name):
        history, lives = (os.path.join(self.dir, f) for f in (name + ".history", "lives"))
        self.cluster.write_lives(lives)
        r = subprocess.run([self.cluster.tool("judge"), history, lives], stdout=subprocess.PIPE, text=True)
        say(f"segment {name[1:]}: {self.number} faults, {r.stdout.strip()}")
        if r.returncode != 0:
            raise Failure(f"the history {history} is not linearizable")
        fields = r.stdout.split()
        for value, key in zip(fields[0:8:2], fields[1:8:2]):
            self.totals[key] += int(value)
        os.unlink(history)

    def check_earlier(self, name):
        """What earlier segments wrote must still be there."""
        for old, digest in self.digests.items():
            if self.cluster.wait_agreed(f"/chaos/{old}") != digest:
                raise Failure(f"what /chaos/{old} held has changed")
        if len(self.digests) >= 8:
            del self.digests[random.Random(self.segments).choice(sorted(self.digests))]
        self.digests[name] = self.cluster.wait_agreed(f"/chaos/{name}")

    def summary(self):
        ops = self.totals["ok"] + self.totals["refused"] + self.totals["unknown"]
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.faults.count.items()))
        return (f"{ops} ops ({self.totals['unknown']} unknown), {self.totals['local-reads']} local reads, {self.number} faults: {counts}, "
                f"{self.cluster.ends} members that ended for a fault; {int(time.monotonic() - self.began)} s, {self.options.members} members{' with TLS' if self.cluster.certs else ''}, "
                f"seed {self.options.seed}: linearizable")

    def all(self):
        for m in self.cluster.members:
            m.start()
        self.cluster.wait_healthy()
        while not self.over():
            self.segment()
        say(self.summary())


def do_run(options, directory):
    run = Run(options, directory)
    try:
        run.all()
    except Failure:
        say(f"so far: {dict(run.faults.count)}")
        raise
    finally:
        run.cluster.stop()


def parser(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument("--seed", type=int, default=int(time.time()) % 1000000, help="of all that is drawn")
    p.add_argument("--tls", action="store_true", help="members and clients know each other by certificate")
    p.add_argument("--etcd", default=os.path.join(TOP, "etcd"))
    p.add_argument("--tools", default=os.path.join(TOP, os.environ.get("BUILD", "build/cc"), "tests/chaos"))
    p.add_argument("--keep", action="store_true", help="keep the folder even if all is well")
    return p


def parse():
    p = parser("Faults on real processes; see the head of chaos.py.")
    p.add_argument("--seconds", type=int, default=0, help="how long (300)")
    p.add_argument("--rounds", type=int, default=0, help="end after so many faults instead")
    p.add_argument("--only", default="", help="of " + ",".join(WEIGHTS))
    p.add_argument("--members", type=int, default=3, choices=[1, 3, 5, 7])
    p.add_argument("--threads", type=int, default=10, help="of the clients")
    p.add_argument("--rate", type=float, default=400, help="operations a second, of all clients")
    p.add_argument("--args", default="", help="more arguments for the members")
    p.add_argument("--verbose", "-v", action="store_true")
    options = p.parse_args()
    wrong = [k for k in options.only.split(",") if k and k not in WEIGHTS]
    if wrong:
        p.error(f"unknown faults: {' '.join(wrong)}")
    if not options.rounds:
        options.seconds = options.seconds or 300
    return options


def unmount_below(directory):
    with open("/proc/self/mounts") as f:
        for line in f:
            if line.split()[1].startswith(directory + "/"):
                libc.umount2(line.split()[1].encode(), 2)


def main(options, run):
    """run(options, directory), and what becomes of the directory."""
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    directory = tempfile.mkdtemp(prefix="etcd-chaos.")
    say(f"seed {options.seed}, {directory}")
    keep = True
    try:
        run(options, directory)
        keep = options.keep
    except (Failure, subprocess.SubprocessError) as e:
        say(f"FAILED: {e}; seed {options.seed}, see {directory}")
        return 1
    except Undecided as e:
        keep = options.keep
        say(f"UNDECIDED: {e}")
        return 3
    except SystemExit:  # we are told to stop
        keep = options.keep
        raise
    finally:
        if keep:
            save(directory)
        unmount_below(directory)
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def save(directory):
    """What is on the small disks goes with them: copy it first."""
    with open("/proc/self/mounts") as f:
        for path in [line.split()[1] for line in f if line.split()[1].startswith(directory + "/")]:
            shutil.copytree(path, path + ".kept", ignore=shutil.ignore_patterns("filler"), dirs_exist_ok=True)


if __name__ == "__main__":
    sys.exit(main(parse(), do_run))
