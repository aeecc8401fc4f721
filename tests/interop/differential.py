#!/usr/bin/python3
"""The same random requests to a real etcd 3.4 and to ours, v2 and v3 (by the
JSON gateway), until their answers differ. What may differ (ids, terms, tokens,
times) is masked; order counts where the API promises one.

  differential.py [--seed N] [--requests N] [--seeds N] [--log FILE]

Each seed has servers of its own and can be played again. Left out is what makes
the real one crash (ignore_lease behind a delete in a transaction, unknown
alarm actions, no alarm of nobody, a role granted nothing), where it asks too
little (what is nested in a transaction; anything during an alarm) and what depends on time (leases that run out).
"""
import argparse
import base64
import collections
import difflib
import http.client
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REAL = os.environ.get("REAL_ETCD", "/usr/bin/etcd")
HEADERS = ("Content-Type", "X-Etcd-Index", "Allow", "Location", "Www-Authenticate", "Grpc-Metadata-Content-Type",
           "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Allow-Headers")
PRESENT = ("X-Etcd-Cluster-Id", "X-Raft-Index", "X-Raft-Term")  # their values may differ
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HISTORY = 12  # requests to show before a difference
IDLE_S, LONGEST_S = 0.25, 8  # streams: silent for so long is all; and at most

# --- The servers. -----------------------------------------------------------------


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


Answer = collections.namedtuple("Answer", "status headers body")


class Server:
    """A single member in a folder of its own, and the names of what it chose."""

    def __init__(self, name, program):
        self.name, self.names = name, {}  # names: placeholder -> what it is here
        self.port, peer_port = free_ports(2)
        self.dir = tempfile.mkdtemp(prefix="etcd-test.", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        client, peer = (f"http://127.0.0.1:{p}" for p in (self.port, peer_port))
        self.log = open(os.path.join(self.dir, "log"), "w+", encoding="utf-8", errors="replace")
        self.process = subprocess.Popen(
            [program, "--name", "m", "--data-dir", os.path.join(self.dir, "data"), "--enable-v2",
             "--bcrypt-cost=4", "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"m={peer}"],
            stdout=self.log, stderr=self.log)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        self.wait_ready()
        member = json.loads(self.ask("GET", "/v2/members").body)["members"][0]["id"]
        cluster = self.ask("GET", "/v2/keys").headers["X-Etcd-Cluster-Id"]
        for placeholder, value in (("MEMBER", member), ("CLUSTER", cluster)):
            self.names["@" + placeholder] = str(int(value, 16))
            self.names["@HEX-" + placeholder] = value
        self.names["@CLIENT"], self.names["@PEER"] = client, peer

    def wait_ready(self):
        for _ in range(400):
            try:
                if b"etcdcluster\":\"3.4" in self.ask("GET", "/version").body:
                    return
            except OSError:
                self.connection.close()
            time.sleep(0.05)
        raise SystemExit(f"{self.name} did not get ready:\n{self.tail()}")

    def tail(self):
        self.log.seek(0)
        return "".join(self.log.readlines()[-20:])

    def here(self, text):
        """A request's text with what the placeholders stand for in this server."""
        return re.sub(r"@[A-Z]+-?[A-Za-z0-9]*", lambda m: self.names.get(m.group(), m.group()), text)

    def masked(self, text):
        """The opposite, of an answer's."""
        for placeholder, value in self.names.items():
            text = text.replace(value, placeholder)
        return text

    def ask(self, method, path, body=None, headers=None):
        data = self.here(body).encode("utf-8", "surrogateescape") if body is not None else None
        sent = {k: self.here(v) for k, v in (headers or {}).items()}
        for attempt in (1, 2):
            try:
                self.connection.request(method, self.here(path), data, sent)
                r = self.connection.getresponse()
                return Answer(r.status, r.headers, r.read())
            except (http.client.HTTPException, ConnectionError):
                self.connection.close()  # idle for too long, or the answer said so
                if attempt == 2:
                    raise
        return None

    def open_stream(self, method, path, body="", headers=None):
        data = self.here(body).encode()
        head = "".join(f"{k}: {self.here(v)}\r\n" for k, v in (headers or {}).items())
        s = socket.create_connection(("127.0.0.1", self.port))
        s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return s

    def close(self):
        self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


# --- What is compared. ----------------------------------------------------------------

MASKS = [(re.compile(p), r) for p, r in (
    (r'"(raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse|db_size_in_use)":"\d+"', r'"\1":"N"'),
    (r'"expiration":"[0-9T:.Z-]+"', '"expiration":"TIME"'),
    (r'"ttl":[1-9]\d*', '"ttl":N'),
    (r'"version":"3\.4\.\d+"', '"version":"3.4"'),
    (r'"token":"[^"]*"', '"token":"T"'),
    # Watchers go when that is noticed; a server's own reads count, and how it
    # changes v2 users (ours by compare and swap).
    (r'"(watchers|gets(?:Success|Fail)|update(?:Success|Fail)|compareAndSwap(?:Success|Fail))":\d+', r'"\1":N'),
)]


def with_sorted_nodes(node):
    if isinstance(node, dict):
        if isinstance(node.get("nodes"), list):
            node["nodes"].sort(key=lambda n: n["key"])
        for child in node.values():
            with_sorted_nodes(child)
    elif isinstance(node, list):
        for child in node:
            with_sorted_nodes(child)


def with_sorted_list(name, body):
    return re.sub(rf'"{name}":\[(.*?)\]', lambda m: f'"{name}":[' + ",".join(sorted(m.group(1).split(","))) + "]", body)


def story(server, request, answer):
    """An answer as lines that must be equal."""
    body = server.masked(answer.body.decode("utf-8", "surrogateescape"))
    for pattern, replacement in MASKS:
        body = pattern.sub(replacement, body)
    try:
        if '"nodes"' in body and "sorted=t" not in request.path:
            tree = json.loads(body.replace('"ttl":N', '"ttl":1'))
            with_sorted_nodes(tree)
            body = json.dumps(tree, separators=(",", ":"), ensure_ascii=False) + body[len(body.rstrip("\n")):]
        elif request.path.endswith("leases"):
            body = with_sorted_list("leases", body)
        elif request.path.endswith("timetolive"):
            body = with_sorted_list("keys", re.sub(r'"TTL":"\d+"', '"TTL":"N"', body))
    except ValueError:
        pass
    lines = [f"status {answer.status}"]
    lines += [f"{h}: {server.masked(answer.headers[h])}" for h in HEADERS if h in answer.headers]
    lines += [f"{h}: ..." for h in PRESENT if h in answer.headers]
    return lines + re.sub(r"([{\[,])(?=[\"{])", r"\1\n", body).split("\n")


def unchunk(data):
    """Header lines and body of an answer that may not have ended."""
    head, _, rest = data.partition(b"\r\n\r\n")
    if b"chunked" not in head.lower():
        return head, rest
    body = b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        n = int(size.split(b";")[0] or b"0", 16)
        body, rest = body + rest[:n], rest[n + 2:]
        if n == 0:
            break
    return head, body


def watch_story(server, data):
    """By watcher: what was said of it, and the events, however they were cut
    into responses; their headers depend on that."""
    head, body = unchunk(data)
    lines = collections.OrderedDict()
    for line in server.masked(body.decode("utf-8", "surrogateescape")).splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            lines.setdefault("unreadable", []).append(line)
            continue
        result = message.get("result", {})
        told = lines.setdefault(result.get("watch_id", "0"), [])
        events = result.pop("events", None)
        result.get("header", {}).pop("raft_term", None)
        if events is None:
            told.append(json.dumps(message))
        else:
            told += [json.dumps(e) for e in events]
    return [head.split(b"\r\n")[0].decode()] + [f"{who}: {x}" for who in sorted(lines) for x in lines[who]]


def long_poll_story(server, data):
    head, body = unchunk(data)
    text = server.masked(body.decode("utf-8", "surrogateescape"))
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    index = [h for h in head.decode().split("\r\n") if h.startswith(("HTTP", "X-Etcd-Index", "Content-Type"))]
    return sorted(index) + text.split("\n")


class Difference(Exception):
    """Answers that are not equal."""


def expect_equal(request, want, got):
    if want != got:
        diff = difflib.unified_diff(want, got, "theirs", "ours", lineterm="", n=2)
        raise Difference(f"{request}\n" + "\n".join(list(diff)[:60]))


# --- Requests. ----------------------------------------------------------------------------

KEYS = ["a", "aa", "ab", "b", "c", "d", "foo/1", "foo/2", "z", "\u00e9", "\xff"]
VALUES = ["", "1", "2", "one", "x" * 300, "<&>\u2028\"\\"]
USERS, ROLES = ["root", "alice", "bob", "nobody"], ["root", "r1", "r2", "r3"]
V2_KEYS = ["a", "b", "dir", "dir/a", "dir/b", "dir/sub", "dir/sub/c", "_hidden", "dir/_h", "queue", "a/b", "\u00e9 x",
           "n\0l", ""]


def b64(text):
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


class Request:
    def __init__(self, method, path, body=None, headers=None):
        self.method, self.path, self.body, self.headers = method, path, body, headers or {}

    def __str__(self):
        head = "".join(f" -H '{k}: {v}'" for k, v in self.headers.items())
        return f"{self.method} {self.path}{head}" + (f" -d '{self.body}'" if self.body is not None else "")


class Generator:
    """Requests at random, so small that they meet one another."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.revision, self.compacted = 1, 0  # about: as the answers tell
        self.leases = ["1", "2", "3"]
        self.tokens = []
        self.auth, self.v2_auth = False, False
        self.index = 4
        self.ends = {}  # of ranges that were granted, by key

    def chance(self, percent):
        return self.rng.random() * 100 < percent

    def some(self, percent, make, *args):
        return make(*args) if self.chance(percent) else None

    def number(self, low, high):
        n = self.rng.randint(low, high)
        return n if self.chance(20) else str(n)

    def revision_near(self):
        low = max(0, self.compacted - 1)
        if self.chance(60):
            low = max(low, self.revision - 12)
        return self.number(low, self.revision + 1)

    def key(self):
        return b64(self.rng.choice(KEYS))

    def lease(self):
        return self.rng.choice(self.leases)

    def fields(self, **wanted):
        """An object of what is not None, in any order."""
        items = [(k, v) for k, v in wanted.items() if v is not None and v is not False]
        self.rng.shuffle(items)
        return dict(items)

    def range_of(self):
        key = self.rng.choice(KEYS)
        kind = self.rng.random()
        if kind < 0.45:
            return b64(key), None
        if kind < 0.6:
            return b64(key), b64(key[:-1] + chr(ord(key[-1]) + 1))
        if kind < 0.7:
            return b64(key), b64("\0")
        if kind < 0.85:
            return b64("\0"), b64("\0")
        return b64(key), self.key()

    def range_request(self):
        key, end = self.range_of()
        return self.fields(
            key=key, range_end=end, limit=self.some(25, self.number, -1, 5), revision=self.some(25, self.revision_near),
            sort_order=self.some(30, self.rng.choice, ["NONE", "ASCEND", "DESCEND", 1, 2]),
            sort_target=self.some(30, self.rng.choice, ["KEY", "VERSION", "CREATE", "MOD", "VALUE", 3]),
            serializable=self.chance(20), keys_only=self.chance(10), count_only=self.chance(10),
            min_mod_revision=self.some(7, self.revision_near), max_mod_revision=self.some(7, self.revision_near),
            min_create_revision=self.some(7, self.revision_near),
            max_create_revision=self.some(7, self.revision_near))

    def put_request(self, ignoring=True):
        ignore_value, ignore_lease = ignoring and self.chance(6), ignoring and self.chance(6)
        return self.fields(
            key=self.key() if not self.chance(2) else None,
            value=None if ignore_value and self.chance(80) else b64(self.rng.choice(VALUES)),
            lease=self.some(2 if ignore_lease else 20, self.lease), prev_kv=self.chance(25),
            ignore_value=ignore_value, ignore_lease=ignore_lease)

    def delete_request(self):
        key, end = self.range_of()
        if end and not self.chance(30):
            end = None
        return self.fields(key=key, range_end=end, prev_kv=self.chance(30))

    def compare(self):
        target = self.rng.choice(["VERSION", "CREATE", "MOD", "VALUE", "LEASE"])
        name = {"VERSION": "version", "CREATE": "create_revision", "MOD": "mod_revision", "VALUE": "value",
                "LEASE": "lease"}[target]
        value = {"VALUE": lambda: b64(self.rng.choice(VALUES)), "LEASE": self.lease,
                 "VERSION": lambda: self.number(0, 3)}.get(target, self.revision_near)()
        wanted = {name: value} if not self.chance(5) else {}
        return self.fields(target=target, key=self.key(), range_end=self.some(20, self.key),
                           result=self.rng.choice(["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]), **wanted)

    def operation(self, depth, ignoring):
        kind = self.rng.random()
        if kind < 0.4:
            return {"request_put": self.put_request(ignoring)}
        if kind < 0.7:
            return {"request_range": self.range_request()}
        if kind < 0.9 and not ignoring:
            return {"request_delete_range": self.delete_request()}
        if depth < 2 and not self.auth:  # 3.4 does not ask who may do what is nested
            return {"request_txn": self.txn_request(depth + 1, ignoring)}
        return {"request_range": self.range_request()}

    def txn_request(self, depth=0, ignoring=None):
        ignoring = self.chance(40) if ignoring is None else ignoring
        return self.fields(
            compare=[self.compare() for _ in range(self.rng.randint(0, 2))] or None,
            success=[self.operation(depth, ignoring) for _ in range(self.rng.randint(0, 3))] or None,
            failure=[self.operation(depth, ignoring) for _ in range(self.rng.randint(0, 2))] or None)

    # --- v3: paths. ---

    def credentials(self):
        """While there is no need, any token is refused."""
        if self.chance(5 if self.auth else 97):
            return {}
        token = self.rng.choice(self.tokens + ["bogus.1"])
        if "@TOKEN-root" in self.tokens and self.chance(50):
            token = "@TOKEN-root"
        return {self.rng.choice(["Authorization", "Grpc-Metadata-Token"]): token}

    def v3(self, path, fields):
        body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
        if self.chance(3) and path != "lease/keepalive":  # a stream: what follows may be waited for
            body = self.spoil(body, fields)
        return Request("POST", "/v3/" + path, body, self.credentials() if path != "auth/authenticate" else {})

    def spoil(self, body, fields):
        """A body that may not do, in one place."""
        fields = dict(fields)
        name = self.rng.choice(list(fields) or ["key"])
        wrong = [None, True, "zz", "", 1, -1, 1.5, "1.5", [], {}, [1], 1e30, "99999999999999999999", "YQ", "YQ=", "Y-Q_",
                 "\u00e9"]
        how = self.rng.randrange(6)
        if how == 0:
            fields["unknown"] = self.rng.choice(wrong)
        elif how == 1:
            fields[re.sub(r"_(.)", lambda m: m.group(1).upper(), name)] = fields.pop(name, "YQ==")
        elif how == 2:
            at = self.rng.randrange(len(body) + 1)
            return body[:at]
        elif how == 3:
            at = self.rng.randrange(len(body))
            return body[:at] + self.rng.choice(["x", "\"", "{", "}", ",", " ", "\\", "\u00e9", "9"]) + body[at:]
        else:
            fields[name] = self.rng.choice(wrong)
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)

    def compaction(self):
        revision = self.rng.randint(max(0, self.compacted - 1), self.revision + 1)
        if self.chance(80):
            revision = max(0, self.revision - self.rng.randint(0, 30))
        return self.fields(revision=str(revision), physical=self.chance(30))

    def v3_kv(self):
        path, make = self.rng.choice([
            ("kv/put", self.put_request), ("kv/put", self.put_request), ("kv/range", self.range_request),
            ("kv/range", self.range_request), ("kv/deleterange", self.delete_request), ("kv/txn", self.txn_request),
            ("kv/txn", self.txn_request)])
        if self.chance(3):
            path, make = "kv/compaction", self.compaction
        return self.v3(path, make())

    def v3_lease(self):
        kind = self.rng.randrange(6)
        prefix = self.rng.choice(["", "kv/"])
        if kind <= 1:
            wanted = self.rng.choice(["1", "2", "3", 1, 2, "-5", "0"] if self.chance(95) else ["zz"])
            return self.v3("lease/grant", self.fields(ID=wanted, TTL=self.number(100, 5000) if not self.chance(3)
                                                      else "9000000001"))
        if kind == 2:
            return self.v3(prefix + "lease/revoke", {"ID": self.lease()})
        if kind == 3:
            return self.v3(prefix + "lease/timetolive", self.fields(ID=self.lease(), keys=self.chance(50)))
        if kind == 4:
            return self.v3("lease/keepalive", {"ID": self.lease()})
        return self.v3(prefix + "lease/leases", {})

    def v3_auth(self):
        user, role = self.rng.choice(USERS), self.rng.choice(ROLES)
        password = {"root": "pw", "alice": "secret"}.get(user, "p")
        if self.auth and self.chance(25):
            return self.v3("auth/disable", {})
        kind = self.rng.choice(["add", "add", "authenticate", "authenticate", "get", "list", "changepw", "delete",
                                "grant", "grant", "revoke", "radd", "radd", "rget", "rlist", "rdelete", "rgrant",
                                "rgrant", "rgrant", "rrevoke", "enable", "enable"])
        key, end = self.range_of()
        end = self.ends.setdefault(key, end)  # 3.4 keeps several types for one range if a key has several
        permission = self.fields(permType=self.rng.choice(["READ", "WRITE", "READWRITE", 1, 2]), key=key, range_end=end)
        return self.v3(*{
            "add": ("auth/user/add", self.fields(name=user if not self.chance(3) else None, password=password,
                                                 options={"no_password": True} if user == "nobody" else None)),
            "authenticate": ("auth/authenticate", {"name": user if not self.chance(5) else "somebody",
                                                   "password": password if not self.chance(10) else "wrong"}),
            "get": ("auth/user/get", {"name": user}), "list": ("auth/user/list", {}),
            "changepw": ("auth/user/changepw", {"name": user, "password": password}),
            "delete": ("auth/user/delete", {"name": user}),
            "grant": ("auth/user/grant", {"user": user, "role": role if user != "root" else "root"}),
            "revoke": ("auth/user/revoke", {"name": user, "role": role}),
            "radd": ("auth/role/add", self.fields(name=role if not self.chance(3) else None)),
            "rget": ("auth/role/get", {"role": role}),
            "rlist": ("auth/role/list", {}), "rdelete": ("auth/role/delete", {"role": role}),
            "rgrant": ("auth/role/grant", self.fields(name=role, perm=permission)),
            "rrevoke": ("auth/role/revoke", self.fields(role=role, key=key, range_end=end)),
            "enable": ("auth/enable", {})}[kind])

    def v3_rest(self):
        return self.rng.choice([
            lambda: self.v3("maintenance/status", {}), lambda: self.v3("cluster/member/list", {}),
            lambda: self.v3("maintenance/alarm", self.fields(action=self.rng.choice(["GET", "DEACTIVATE"]), memberID="7",
                                                             alarm=self.rng.choice(["NONE", "NOSPACE"]))),
            self.alarm,
            lambda: self.v3("cluster/member/remove", {"ID": "5"}),
            lambda: self.v3("cluster/member/promote", {"ID": "@MEMBER"}),
            lambda: self.v3("cluster/member/update", {"ID": "5", "peerURLs": self.rng.choice(
                [["http://127.0.0.1:1"], ["nonsense"], []])}),
            lambda: self.v3("cluster/member/update", {"ID": "@MEMBER", "peerURLs": self.rng.choice(
                [["@PEER"], ["http://127.0.0.1:1", "@PEER"], ["@PEER", "@PEER"]])}),
            lambda: self.v3("cluster/member/add", {"peerURLs": [self.rng.choice(["nonsense", "@PEER", ""])]}),
            lambda: self.v3("maintenance/transfer-leadership", {"targetID": "5"}),
            lambda: Request(self.rng.choice(["GET", "PUT", "DELETE", "HEAD"]), "/v3/kv/put"),
            lambda: Request("POST", self.rng.choice(["/v3/kv/nothing", "/v3/", "/v3beta/kv/range"]), '{"key":"YQ=="}'),
        ])()

    def alarm(self):
        """One that comes and goes, while users are off: 3.4 forgets them over it."""
        if self.auth:
            return self.v3("maintenance/alarm", {})
        alarm = {"memberID": "7", "alarm": self.rng.choice(["NONE", "NOSPACE"])}
        during = [self.v3_kv() for _ in range(3)] + [self.v3("maintenance/status", {})]
        raised, disarmed = (Request("POST", "/v3/maintenance/alarm", json.dumps({"action": action, **alarm}))
                            for action in ("ACTIVATE", "DEACTIVATE"))
        return [raised] + during + [disarmed]

    def watch(self):
        """Watchers of one stream, and what is written once they are there."""
        creates = []
        for _ in range(self.rng.randint(1, 3)):
            key, end = self.range_of()
            start = None if self.chance(40) else self.number(max(0, self.compacted - 1), self.revision + 2)
            if self.compacted > 0 and self.chance(3):  # one that ends at 0 does not tell
                start = self.number(-3, -1)
            if start is not None and int(start) == self.compacted:
                start = str(self.compacted + 1)  # 3.4 has lost that one's deletes
            creates.append({"create_request": self.fields(
                key=key, range_end=end, start_revision=start, prev_kv=self.chance(40),
                progress_notify=self.chance(10), watch_id=self.some(10, self.number, 0, 4),
                filters=self.some(30, lambda: [self.rng.choice(["NOPUT", "NODELETE", 1])]),
                fragment=self.chance(20))})
        writes = [self.v3("kv/put", self.put_request()) if self.chance(60) else
                  self.v3("kv/deleterange", self.delete_request()) for _ in range(self.rng.randint(0, 3))]
        body = "".join(json.dumps(c) for c in creates)
        return Request("POST", "/v3/watch", body, self.credentials()), writes

    # --- v2. ---

    def v2_path(self):
        key = self.rng.choice(V2_KEYS)
        path = "/v2/keys" + ("/" + urllib.parse.quote(key) if key else self.rng.choice(["", "/"]))
        return path + ("/" if self.chance(3) else "")

    def v2_credentials(self):
        if not self.chance(90 if self.v2_auth else 3):
            return {}
        user = self.rng.choice(["root:pw", "root:pw", "alice:secret", "bob:p", "bob:wrong", "nobody"])
        return {"Authorization": "Basic " + b64(user)}

    def switch(self):
        return self.rng.choice(["true", "true", "true", "false", "1", "0", "T", "yes", ""])

    def v2_params(self, names):
        """Each at a chance; wrong values are rare."""
        values = {
            "value": lambda: self.rng.choice(VALUES), "dir": self.switch, "recursive": self.switch,
            "sorted": self.switch, "quorum": self.switch, "prevExist": self.switch,
            "prevValue": lambda: self.rng.choice(VALUES), "refresh": self.switch, "noValueOnSuccess": self.switch,
            "prevIndex": lambda: str(self.rng.randint(0, self.index + 1)) if self.chance(90) else "x",
            "ttl": lambda: str(self.rng.randint(100, 9000)) if self.chance(90) else self.rng.choice(["", "x", "-1"])}
        return urllib.parse.urlencode([(n, values[n]()) for n, percent in names.items() if self.chance(percent)])

    def v2_keys(self):
        method = self.rng.choice(["GET", "GET", "PUT", "PUT", "PUT", "POST", "DELETE", "HEAD"])
        path, headers, body = self.v2_path(), self.v2_credentials(), None
        if method in ("GET", "HEAD"):
            query = self.v2_params({"recursive": 40, "sorted": 50, "quorum": 20, "dir": 3})
        elif method == "DELETE":
            query = self.v2_params({"dir": 30, "recursive": 25, "prevValue": 10, "prevIndex": 10})
        else:
            query = self.v2_params({"value": 80, "dir": 12, "ttl": 15, "prevExist": 15, "prevValue": 10,
                                    "prevIndex": 10, "refresh": 5, "noValueOnSuccess": 8})
            if self.chance(70):
                query, body = "", query
                headers.update(FORM if not self.chance(3) else {"Content-Type": "application/json"})
        if self.chance(1):
            query += "&value=%zz"
        return Request(method, path + ("?" + query if query else ""), body, headers)

    def v2_auth_request(self):
        user, role = self.rng.choice(USERS[:3]), self.rng.choice(ROLES)
        password = {"root": "pw", "alice": "secret"}.get(user, "p")
        headers = {"Content-Type": "application/json"}
        headers.update({"Authorization": "Basic " + b64("root:pw")} if self.chance(60) else self.v2_credentials())
        if self.v2_auth and self.chance(50):
            return Request("DELETE", "/v2/auth/enable", None, headers)
        permissions = {"kv": {k: ["/" + self.rng.choice(V2_KEYS) + self.rng.choice(["", "*"])]
                              for k in self.rng.choice([["read"], ["write"], ["read", "write"]])}}
        roles = [self.rng.choice(ROLES)]
        change = self.rng.choice(["roles", "grant", "revoke"])
        return self.rng.choice([
            lambda: Request("PUT", "/v2/auth/users/" + user, json.dumps(self.fields(
                user=user if not self.chance(5) else "other", password=password if self.chance(70) else None,
                **self.fields(**({change: roles} if self.chance(50) else {})))), headers),
            lambda: Request("PUT", "/v2/auth/users/" + user, json.dumps({"user": user, "password": password}), headers),
            lambda: Request(self.rng.choice(["GET", "GET", "DELETE"]), "/v2/auth/users/" + user, None, headers),
            lambda: Request("GET", self.rng.choice(["/v2/auth/users", "/v2/auth/roles", "/v2/auth/enable"]), None,
                            headers),
            lambda: Request("PUT", "/v2/auth/roles/" + role, json.dumps(self.fields(
                role=role, **{self.rng.choice(["permissions", "grant", "revoke"]): permissions})), headers),
            lambda: Request(self.rng.choice(["GET", "GET", "DELETE"]), "/v2/auth/roles/" + role, None, headers),
            lambda: Request("PUT", "/v2/auth/enable", None, headers),
            lambda: Request("PUT", "/v2/auth/users/" + user, self.rng.choice(
                ["", "{", "[]", "nonsense", "null", '{"user":"%s"} and more' % user]), headers),
        ])()

    def v2_rest(self):
        json_type = {"Content-Type": "application/json"}
        return self.rng.choice([
            lambda: Request("GET", "/v2/stats/store", None, self.v2_credentials()),
            lambda: Request("GET", self.rng.choice(["/v2/members", "/v2/machines", "/v2/members/leader", "/version",
                                                    "/health", "/v2/nothing", "/v2/members/"])),
            lambda: Request("POST", "/v2/members", self.rng.choice(
                ["", "{", "tru", '{"peerURLs":[]}', '{"peerURLs":["nonsense"]}', '{"peerURLs":["@PEER"]}']), json_type),
            lambda: Request("DELETE", "/v2/members/" + self.rng.choice(["5", "zz", ""])),
            lambda: Request("PUT", "/v2/members/5", '{"peerURLs":["http://127.0.0.1:1"]}', json_type),
            lambda: Request(self.rng.choice(["PATCH", "OPTIONS", "DELETE", "PUT"]), self.rng.choice(
                ["/v2/keys/a", "/v2/members", "/v2/machines", "/v2/stats/store", "/v2/auth/enable"])),
        ])()

    def long_poll(self):
        path = "/v2/keys/" + self.rng.choice(["a", "b", "dir", "dir/a", "dir/sub", ""])
        query = "wait=" + ("true" if not self.chance(5) else "x")
        query += self.rng.choice(["", "&recursive=true"]) + self.rng.choice(["", "", "&stream=true"])
        query += "&quorum=true&sorted=true" if self.chance(10) else ""
        if self.chance(50):
            query += f"&waitIndex={self.rng.randint(max(0, self.index - 60), self.index + 1)}"
        headers = self.v2_credentials()
        writes = [self.v2_keys() for _ in range(self.rng.randint(1, 3))]
        return Request("GET", f"{path}?{query}", None, headers), writes

    def next(self):
        """A request, or several, or a stream's with those that follow."""
        kinds = {self.v3_kv: 40, self.v2_keys: 30, self.v3_lease: 10, self.v3_auth: 12, self.v3_rest: 2,
                 self.v2_rest: 2, self.v2_auth_request: 2 if not self.v2_auth else 15, self.watch: 0.5,
                 self.long_poll: 0.7}
        return self.rng.choices(list(kinds), list(kinds.values()))[0]()


# --- A run. --------------------------------------------------------------------------------


class Run:
    def __init__(self, seed, ours, log):
        self.generator, self.log = Generator(seed), log
        self.history = collections.deque(maxlen=HISTORY)
        self.statuses = collections.Counter()
        self.servers = [Server("theirs", REAL)]
        try:
            self.servers.append(Server("ours", ours))
        except BaseException:
            self.servers[0].close()
            raise

    def ask_both(self, request):
        self.note(request)
        answers = [s.ask(request.method, request.path, request.body, request.headers) for s in self.servers]
        if request.path.endswith("lease/grant"):
            self.learn("@LEASE-", answers, "ID", self.generator.leases, lambda id: len(id) > 10)
        expect_equal(request, *(story(s, request, a) for s, a in zip(self.servers, answers)))
        self.follow(request, answers)
        self.statuses[answers[0].status] += 1

    def note(self, request):
        self.history.append(str(request))
        if self.log:
            print(request, file=self.log, flush=True)

    def learn(self, placeholder, answers, field, known, is_theirs):
        """Name what each server chose by itself."""
        found = [json.loads(a.body or b"{}").get(field, "") for a in answers]
        if all(found) and is_theirs(found[0]):
            name = f"{placeholder}{len(known)}"
            for server, value in zip(self.servers, found):
                server.names[name] = value
            known.append(name)

    def follow(self, request, answers):
        """What the next requests should know."""
        g, body = self.generator, answers[0].body
        revision = re.search(rb'"revision":"(\d+)"', body)
        if revision and request.path.startswith("/v3/kv"):
            g.revision = max(g.revision, int(revision.group(1)))
        if answers[0].status != 200:
            return
        if request.path == "/v3/auth/authenticate":
            name = "@TOKEN-" + json.loads(request.body)["name"]
            for server, answer in zip(self.servers, answers):
                server.names[name] = json.loads(answer.body)["token"]
            if name not in g.tokens:
                g.tokens.append(name)
        elif request.path == "/v3/auth/enable":
            g.auth = True
        elif request.path == "/v3/auth/disable":
            g.auth = False
        elif request.path == "/v3/kv/compaction" and b'"revision"' in (request.body or "").encode():
            g.compacted = max(g.compacted, int(json.loads(request.body).get("revision") or 0))
        elif request.path == "/v2/auth/enable" and request.method in ("PUT", "DELETE"):
            g.v2_auth = request.method == "PUT"
        g.index = int(answers[0].headers.get("X-Etcd-Index", g.index))

    def stream(self, request, writes, tell):
        """Open both, wait for their heads, write, and read until both told the
        same and fall silent, or for long enough to say that they will not."""
        self.note(request)
        sockets = [s.open_stream(request.method, request.path, request.body or "", request.headers)
                   for s in self.servers]
        data = {s: b"" for s in sockets}
        try:
            self.read(sockets, data, lambda: all(b"\r\n\r\n" in d for d in data.values()), LONGEST_S)
            if tell is watch_story:
                n = request.body.count("create_request")
                self.read(sockets, data, lambda: all(d.count(b"\n") > 20 + n for d in data.values()), IDLE_S)
            for w in writes:
                self.ask_both(w)
            end = time.monotonic() + LONGEST_S
            while time.monotonic() < end:
                self.read(sockets, data, lambda: False, IDLE_S)
                stories = [tell(s, data[c]) for s, c in zip(self.servers, sockets)]
                if stories[0] == stories[1]:
                    break
            expect_equal(request, *stories)
        finally:
            for s in sockets:
                s.close()

    @staticmethod
    def read(sockets, data, done, seconds):
        """Until done, or nothing came for so long."""
        live = list(sockets)
        while live and not done():
            ready = select.select(live, [], [], seconds)[0]
            if not ready:
                return
            for s in ready:
                got = s.recv(65536)
                data[s] += got
                if not got:
                    live.remove(s)

    def step(self):
        what = self.generator.next()
        if isinstance(what, Request):
            what = [what]
        if isinstance(what, list):
            for request in what:
                self.ask_both(request)
            return len(what)
        request, writes = what
        self.stream(request, writes, watch_story if request.path == "/v3/watch" else long_poll_story)
        return 1 + len(writes)

    def close(self):
        for s in self.servers:
            s.close()


def play(seed, requests, ours, log):
    """True if no answer differed."""
    run, done, began = Run(seed, ours, log), 0, time.monotonic()
    try:
        while done < requests:
            done += run.step()
    except Difference as difference:
        print(f"FAIL: seed {seed}: after {done} requests\n  " + "\n  ".join(list(run.history)[:-1]))
        print(f"\nthe answers differ:\n{difference}")
        return False
    except (OSError, http.client.HTTPException) as e:
        print(f"FAIL: seed {seed}: after {done} requests: {e!r}\n  " + "\n  ".join(run.history))
        for s in run.servers:
            print(f"--- {s.name}\n{s.tail()}")
        return False
    finally:
        run.close()
    told = " ".join(f"{n}x{status}" for status, n in sorted(run.statuses.items()))
    print(f"seed {seed}: {done} requests in {time.monotonic() - began:.1f} s, all answers equal ({told})")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many, from --seed on")
    parser.add_argument("--requests", type=int, default=2000, help="of each seed")
    parser.add_argument("--etcd", default=os.path.join(TOP, "etcd"), help="ours")
    parser.add_argument("--log", type=argparse.FileType("w"), help="write all requests there")
    args = parser.parse_args()
    if not os.access(REAL, os.X_OK):
        raise SystemExit(f"there is no real etcd at {REAL}: install etcd-server (3.4), or set REAL_ETCD")
    passed = sum(play(seed, args.requests, args.etcd, args.log) for seed in range(args.seed, args.seed + args.seeds))
    print(f"{passed} passed, {args.seeds - passed} failed")
    sys.exit(passed != args.seeds)


if __name__ == "__main__":
    main()
