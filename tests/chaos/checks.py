#!/usr/bin/env python3
"""checks.py - what chaos.py does not mix in, each with a load of its own.

    python3 tests/chaos/checks.py slowdisk    a disk of 150 ms
    python3 tests/chaos/checks.py leases      v3 leases while clocks jump
    python3 tests/chaos/checks.py slowlink    a snapshot over a slow link
    python3 tests/chaos/checks.py rolling     restarts that no client notices
    python3 tests/chaos/checks.py judge       is the judge of chaos.py awake?

--seed, --tls, --keep and the exit status are as for chaos.py.
"""
import base64
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from chaos import FAST, Cluster, Failure, Undecided, main, parser, say, wait_for

LEASE_S = 8
LEASE_SLACK_S = 6.0       # from its end until nobody knows it any more
LINK_BYTES_S = 2_000_000  # what a slow link carries in a second
SNAPSHOT_MB = 24
RETRY_S = 5               # the time-out of etcd's clients


def call(member, path, timeout=3, **fields):
    """An answer of the v3 gateway, or None."""
    return member.json("/v3/" + path, method="POST", body=json.dumps(fields), timeout=timeout)


def b64(text):
    return base64.b64encode(text.encode()).decode()


def start_all(c):
    for m in c.members:
        m.start()
    c.wait_healthy()


def wait_leader(c):
    return wait_for("a leader", 20, c.leader)


def changes(c):
    return [m.metric("etcd_server_leader_changes_seen_total") for m in c.members]


# --- A slow disk. ---------------------------------------------------------------

def start_load(c, command, seconds, writers, readers, members):
    args = [command, str(seconds), str(writers), str(readers)] + [m.client_url for m in members]
    return c.start_client(args, stdout=subprocess.PIPE, text=True)


def p99_of(line):
    return float(line.split()[7])


def slow_disk_load(c, command, idle, options):
    """False: reads are slow, but so is the machine."""
    seconds, writers, readers = options.seconds or 60, 64, 6
    leader = wait_leader(c)
    syncs = lambda: leader.metric("etcd_disk_wal_fsync_duration_seconds_count")
    term = lambda: [m.get("/v2/keys/")[1]["X-Raft-Term"] for m in c.members]
    before, was = syncs(), (changes(c), term())
    beside = start_load(c, command, seconds, 0, readers // 3, [idle])
    load = start_load(c, command, seconds, writers, readers, c.members)
    line, idle_line = load.communicate()[0].strip(), beside.communicate()[0]
    per_sync = int(line.split()[0]) / max(1, syncs() - before)
    elected = (changes(c), term()) != was or not leader.leads()
    say(f"150 ms disk, {'v3' if command == 'load3' else 'v2'}, {seconds} s, {writers} writers, {readers} readers: {line} ms (p99 of an "
        f"idle server beside: {p99_of(idle_line):.3f}), {per_sync:.1f} writes a sync, {'ELECTIONS' if elected else 'no elections'}")
    if elected or per_sync <= 1:
        raise Failure("elections or lone syncs on a slow disk")
    if p99_of(line) >= 5 and p99_of(idle_line) < 2.5:
        raise Failure("local reads wait for a slow disk")
    return p99_of(line) < 5


def check_slowdisk(c, options):
    """A disk of 150 ms: no elections, fast local reads, shared syncs. A server
    that has nothing to do is read beside it: its p99 is the machine's own."""
    idle = c.spare
    idle.joining = f"{idle.name}={idle.peer_url}"
    idle.start(state="new")
    start_all(c)
    for m in c.members:
        m.control.set("delay_ms", 150)
    if not all([slow_disk_load(c, command, idle, options) for command in ("load", "load3")]):
        raise Undecided("reads are slow, but so are those of an idle server")


# --- Leases and clocks. -----------------------------------------------------------

def grant(c, ttl):
    """A lease with a key: its id, and when it was asked for."""
    asked = time.monotonic()
    lease = wait_for("a lease", 20, lambda: call(c.members[1], "lease/grant", TTL=str(ttl)))["ID"]
    wait_for("a key", 20, lambda: call(c.members[2], "kv/put", key=b64(f"lease/{lease}"), value=b64("v"), lease=lease))
    return lease, asked


def lives(c, lease):
    """Whether it is known, and its key is there; None: nobody could tell."""
    for m in c.up():
        key = call(m, "kv/range", key=b64(f"lease/{lease}"))
        told = call(m, "lease/timetolive", ID=lease)
        if key is None or "header" not in key or told is None:
            continue
        known = "grantedTTL" in told
        return known and "kvs" in key
    return None


def jump_clocks(c, rng):
    for m in c.members:
        m.control.set("clock_ns", int(rng.choice([-1, 1]) * rng.uniform(60, 86400 * 400) * 1e9))


def watch_lease(c, rng, ttl, kill_leader):
    """It lives for its TTL from when it was asked for, whatever clocks say, and
    then ends; with a new leader its time begins again, once."""
    lease, asked = grant(c, ttl)
    kept, _ = grant(c, 3)
    at_most = ttl + LEASE_SLACK_S
    if kill_leader:
        jump_clocks(c, rng)
        victim = wait_leader(c)
        victim.kill()
        victim.start()
        at_most = time.monotonic() - asked + ttl + LEASE_SLACK_S + 1
    while True:
        jump_clocks(c, rng)
        call(c.up()[0], "lease/keepalive", ID=kept)
        called = time.monotonic()
        alive = lives(c, lease)
        if alive is False and called - asked < ttl:
            raise Failure(f"a lease of {ttl} s ended within {time.monotonic() - asked:.1f} s")
        if alive is False:
            break
        if called - asked > at_most:
            raise Failure(f"a lease of {ttl} s lives after {called - asked:.1f} s")
        time.sleep(0.3)
    ended = time.monotonic() - asked
    if lives(c, kept) is False:
        raise Failure("a lease that was kept alive has ended")
    call(c.up()[0], "lease/revoke", ID=kept)
    return ended


def check_leases(c, options):
    rng = random.Random(options.seed)
    start_all(c)
    wait_leader(c)
    told = []
    for i in range(4):
        kill = i % 2 == 1
        ended = watch_lease(c, rng, LEASE_S, kill)
        c.wait_healthy()
        told.append(f"{ended:.1f} s{' (new leader)' if kill else ''}")
    say(f"leases of {LEASE_S} s while all clocks jump by up to 400 days: ended after {', '.join(told)}; renewed ones lived on")


# --- A slow link. -------------------------------------------------------------------

def put_until(stop, member, took):
    n = 0
    while not stop.is_set():
        began = time.monotonic()
        n += 1
        if (call(member, "kv/put", key=b64("beat"), value=b64(str(n))) or {}).get("header"):
            took.append(time.monotonic() - began)
        time.sleep(0.02)


def hash_of(member, revision):
    r = call(member, "maintenance/hash", timeout=10) if revision is None else call(member, "maintenance/hashkv", timeout=10, revision=revision)
    return (r or {}).get("hash")


def check_slowlink(c, options):
    """A follower that needs a snapshot gets it over 2 MB/s: it comes, nobody
    is elected meanwhile, and writes go on."""
    if not c.wire:
        return  # said already
    start_all(c)
    follower = next(m for m in c.members if m is not wait_leader(c))
    follower.kill()
    follower.wanted = False
    leader = wait_leader(c)
    rng = random.Random(options.seed)
    for i in range(SNAPSHOT_MB):  # cannot be made small
        value = base64.b64encode(rng.randbytes(1_000_000)).decode()
        wait_for("a large value", 20, lambda: (call(leader, "kv/put", timeout=20, key=b64(f"large/{i}"), value=value) or {}).get("header"))
    for i in range(600):  # its log must not do
        wait_for("a put", 20, lambda: (call(leader, "kv/put", key=b64("small"), value=b64(str(i))) or {}).get("header"))
    for m in c.members:
        for a, b in (m.wire_port, follower.wire_port), (follower.wire_port, m.wire_port):
            if a != b:
                c.wire.command(f"rate {a} {b} {LINK_BYTES_S}")
    term = lambda: leader.get("/v2/keys/")[1]["X-Raft-Term"]
    was, stop, took = term(), threading.Event(), []
    beat = threading.Thread(target=put_until, args=(stop, leader, took))
    beat.start()
    try:
        began = time.monotonic()
        follower.start()
        wait_for("the follower has it all", 120, lambda: (call(follower, "kv/range", key=b64("small"), serializable=True) or {}).get("kvs", [{}])[0]
                 .get("value") == b64("599"))
        seconds = time.monotonic() - began
        wait_for("the follower is healthy", 30, follower.healthy)
    finally:
        stop.set()
        beat.join()
    if term() != was:
        raise Failure("a snapshot over a slow link made an election")
    if seconds < SNAPSHOT_MB * 1e6 / LINK_BYTES_S / 2:
        raise Failure(f"{SNAPSHOT_MB} MB in {seconds:.1f} s: this was no slow link")
    revision = wait_for("a revision", 10, lambda: call(follower, "kv/range", key=b64("small")))["header"]["revision"]
    hashes = {wait_for("a hash", 30, lambda m=m: hash_of(m, revision)) for m in c.members}
    if len(hashes) != 1:
        raise Failure(f"members differ: {hashes}")
    took.sort()
    say(f"a snapshot of {SNAPSHOT_MB} MB over {LINK_BYTES_S / 1e6:.0f} MB/s: there after {seconds:.1f} s, no election; {len(took)} writes beside it, "
        f"p99 {took[len(took) * 99 // 100] * 1000:.0f} ms, slowest {took[-1] * 1000:.0f} ms")


# --- Rolling restarts. ------------------------------------------------------------

class Retrying(threading.Thread):
    """Puts, v2 or v3, again and again on any member until one is taken."""

    def __init__(self, c, number, stop):
        super().__init__()
        self.c, self.number, self.stop = c, number, stop
        self.done, self.retries, self.slowest, self.failed = 0, 0, 0.0, None

    def put(self, member, value):
        if self.number % 2:
            return bool((call(member, "kv/put", key=b64(f"roll/{self.number}"), value=b64(value)) or {}).get("header"))
        r = member.get(f"/v2/keys/roll/{self.number}?value={value}", method="PUT")
        return bool(r) and r[0] in (200, 201)

    def run(self):
        members = self.c.members
        while not self.stop.is_set() and not self.failed:
            began, n = time.monotonic(), self.done + self.number
            while not self.put(members[n % len(members)], str(self.done + 1)):
                self.retries, n = self.retries + 1, n + 1
                if time.monotonic() - began > RETRY_S:
                    self.failed = f"put {self.done + 1} of client {self.number} failed for {RETRY_S} s"
                    return
                time.sleep(0.02)
            self.done += 1
            self.slowest = max(self.slowest, time.monotonic() - began)

    def kept(self, member):
        if self.number % 2:
            return call(member, "kv/range", key=b64(f"roll/{self.number}"))["kvs"][0]["value"] == b64(str(self.done))
        return member.json(f"/v2/keys/roll/{self.number}?quorum=true")["node"]["value"] == str(self.done)


def check_rolling(c, options):
    """Each member is restarted in turn, by SIGTERM, twice: a client that tries
    again on another one has no request that fails, and nothing is lost."""
    start_all(c)
    wait_leader(c)
    stop = threading.Event()
    clients = [Retrying(c, i, stop) for i in range(8)]
    for t in clients:
        t.start()
    try:
        for m in c.members * 2:
            time.sleep(1)
            m.process.send_signal(signal.SIGTERM)
            m.process.wait(20)
            m.ended()
            m.start()
            wait_for(f"{m.name} is healthy", 30, m.healthy)
        time.sleep(1)
    finally:
        stop.set()
        for t in clients:
            t.join()
    for t in clients:
        if t.failed:
            raise Failure(t.failed)
        if not t.kept(c.members[t.number % len(c.members)]):
            raise Failure(f"what client {t.number} wrote last is not there")
    say(f"{2 * len(c.members)} restarts under {len(clients)} clients: {sum(t.done for t in clients)} puts, none failed, "
        f"{sum(t.retries for t in clients)} tried again, slowest {max(t.slowest for t in clients):.2f} s")


# --- The judge. -----------------------------------------------------------------

def plants(lines):
    """Histories that are wrong, made from a good one: (what, lines)."""
    ops = [line.split() for line in lines]
    wrote = [i for i, f in enumerate(ops) if f[0] in "pcvi" and f[-1] == "ok"]
    last = max(i for i, f in enumerate(ops) if f[0] == "r" and f[7] != "0" and
               any(ops[w][6] == f[6] and int(ops[w][9]) < int(f[9]) for w in wrote) and i >= len(ops) - 12)
    old = max(w for w in wrote if ops[w][6] == ops[last][6] and int(ops[w][9]) < int(ops[last][9]))
    local = [i for i, f in enumerate(ops) if f[0] == "l"][-1]

    def changed(i, **fields):
        f = list(ops[i])
        for at, value in fields.items():
            f[int(at[1:])] = value
        return lines[:i] + [" ".join(f) + "\n"] + lines[i + 1:]

    yield "a stale read", changed(last, f7=ops[old][7], f9=ops[old][9])
    yield "a lost write", changed(last, f7="0", f9="0")
    yield "one index twice", changed(wrote[-1], f9=ops[wrote[-2]][9])
    yield "a member that goes back", changed(local, f7="0", f9="0", f10="5")
    yield "an answer that makes no sense", lines + ["! p answered 400\n"]


def check_judge(c, options):
    start_all(c)
    history, lives_file = (os.path.join(c.dir, name) for name in ("good", "lives"))
    client = c.start_client(["record", history, "j", str(options.seed), "4", "400"] + [m.client_url for m in c.members])
    time.sleep(4)
    client.terminate()
    if client.wait(60) != 0:
        raise Failure("the clients failed")
    c.write_lives(lives_file)
    with open(history) as f:
        lines = f.readlines()
    judge = lambda path: subprocess.run([c.tool("judge"), path, lives_file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    if judge(history) != 0:
        raise Failure("the judge refused a good history")
    n = 0
    for what, wrong in plants(lines):
        path = os.path.join(c.dir, "wrong")
        with open(path, "w") as f:
            f.writelines(wrong)
        if judge(path) != 1:
            raise Failure(f"the judge did not see {what}")
        n += 1
    say(f"judge: a good history of {len(lines)} lines accepted, {n} spoilt ones refused")


# Each with the arguments of its members.
CHECKS = {"slowdisk": (check_slowdisk, []), "leases": (check_leases, FAST), "slowlink": (check_slowlink, FAST + ["--snapshot-count", "200",
          "--snapshot-catchup-entries", "50"]), "rolling": (check_rolling, []), "judge": (check_judge, FAST)}


def run(options, directory):
    check, args = CHECKS[options.check]
    c = Cluster(options, directory, 3, args)
    try:
        check(c, options)
    finally:
        c.stop()


def parse():
    p = parser("Checks on real processes; see the head of checks.py.")
    p.add_argument("check", choices=sorted(CHECKS))
    p.add_argument("--seconds", type=int, default=0, help="of slowdisk, for v2 and for v3 (60)")
    return p.parse_args()


if __name__ == "__main__":
    sys.exit(main(parse(), run))
