#!/usr/bin/python3
"""All that Debian's python3-etcd3 offers, against our server (or --etcd PROGRAM).

With --tls DIR by TLS: the server shows server.pem there, the client right.pem,
both of ca.pem.
"""
import argparse
import io
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
import etcd3  # noqa: E402
import grpc  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Server:
    """A single member in a folder of its own."""

    def __init__(self, program, tls):
        tool = os.path.join(TOP, os.environ.get("BUILD", "build/cc"), "tests/freeport")
        ports = subprocess.check_output([tool, "3"], text=True).split()
        self.port = int(ports[0])
        self.spare_peer = f"http://127.0.0.1:{ports[2]}"
        self.dir = tempfile.mkdtemp(prefix="etcd-test.")
        client, peer = (f"http://127.0.0.1:{p}" for p in ports[:2])
        flags, context, self.tls = [], None, {}
        if tls:
            ca, cert, key = (os.path.join(tls, name) for name in ("ca.pem", "right.pem", "right.key"))
            client = client.replace("http:", "https:")
            flags = ["--cert-file", os.path.join(tls, "server.pem"), "--key-file", os.path.join(tls, "server.key"),
                     "--trusted-ca-file", ca, "--client-cert-auth"]
            context = ssl.create_default_context(cafile=ca)
            context.load_cert_chain(cert, key)
            self.tls = {"ca_cert": ca, "cert_cert": cert, "cert_key": key}
        self.log = open(os.path.join(self.dir, "log"), "w+")
        self.process = subprocess.Popen(
            [program, "--name", "m", "--data-dir", os.path.join(self.dir, "data"),
             "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"m={peer}"] + flags, stdout=self.log, stderr=self.log)
        for _ in range(200):
            try:
                with urllib.request.urlopen(client + "/health", timeout=1, context=context) as answer:
                    if b"true" in answer.read():
                        return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server did not get healthy")

    def client(self, **options):
        return etcd3.client(port=self.port, **self.tls, **options)

    def close(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def wait_until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def test_put_and_get(c, _):
    assert c.get("none") == (None, None)
    c.put("a", "1")
    value, meta = c.get("a")
    assert value == b"1" and meta.key == b"a" and meta.version == 1
    assert meta.create_revision == meta.mod_revision
    c.put("a", "2", prev_kv=True)
    assert c.get("a", serializable=True)[1].version == 2
    big = os.urandom(1 << 20)
    c.put("big", big)
    assert c.get("big")[0] == big
    assert c.delete("big") and not c.delete("big")
    assert c.put("a", "3", prev_kv=True).prev_kv.value == b"2"
    assert c.put_if_not_exists("fresh", "x") and not c.put_if_not_exists("fresh", "y")


def test_ranges(c, _):
    for i in range(20):
        c.put(f"r/{i:02}", str(i))
    assert [v for v, _ in c.get_prefix("r/")] == [str(i).encode() for i in range(20)]
    down = [v for v, _ in c.get_prefix("r/", sort_order="descend", sort_target="mod")]
    assert down == [str(i).encode() for i in reversed(range(20))]
    assert len(list(c.get_range("r/05", "r/10"))) == 5
    assert all(v == b"" for v, _ in c.get_prefix("r/", keys_only=True))
    assert len(list(c.get_all())) >= 20
    assert c.delete_prefix("r/").deleted == 20
    assert not list(c.get_prefix("r/"))


def test_transactions(c, _):
    c.put("t", "old")
    ok, answers = c.transaction(
        compare=[c.transactions.value("t") == "old", c.transactions.version("t") > 0,
                 c.transactions.create("nope") == 0, c.transactions.mod("t") != 0],
        success=[c.transactions.put("t", "new"), c.transactions.get("t"), c.transactions.delete("a")],
        failure=[c.transactions.put("t", "bad")])
    assert ok and answers[1][0][0] == b"new"
    inner = c.transactions.txn(compare=[c.transactions.value("t") == "new"],
                               success=[c.transactions.put("t", "inner")], failure=[])
    assert c.transaction(compare=[], success=[inner], failure=[])[0]
    assert c.get("t")[0] == b"inner"
    assert c.replace("t", "inner", "replaced") and not c.replace("t", "inner", "x")


def test_leases(c, _):
    lease = c.lease(60)
    c.put("leased/1", "x", lease)
    c.put("leased/2", "x", lease=lease.id)
    assert c.get("leased/1")[1].lease_id == lease.id
    assert sorted(lease.keys) == [b"leased/1", b"leased/2"]
    assert lease.granted_ttl == 60 and 55 <= lease.remaining_ttl <= 60
    assert lease.refresh()[0].TTL == 60
    assert c.lease(30, lease_id=4711).id == 4711
    assert c.get_lease_info(4711).TTL in (29, 30)
    c.revoke_lease(4711)
    lease.revoke()
    assert c.get("leased/1") == (None, None)
    short = c.lease(1)
    c.put("short", "x", short)
    wait_until(lambda: c.get("short")[0] is None, 8)


def test_watches(c, _):
    revision = c.put("w/0", "before").header.revision
    events, cancel = c.watch_prefix("w/", start_revision=revision, prev_kv=True)
    c.put("w/1", "one")
    c.put("w/1", "two")
    c.delete("w/1")
    seen = [next(events) for _ in range(4)]
    assert [type(e).__name__ for e in seen] == ["PutEvent"] * 3 + ["DeleteEvent"]
    assert seen[2].prev_value == b"one" and seen[3].prev_value == b"two"
    cancel()
    called = []
    watch = c.add_watch_callback("w/cb", lambda response: called.extend(response.events))
    c.put("w/cb", "x")
    wait_until(lambda: called)
    c.cancel_watch(watch)
    c.put("w/cb", "y")
    time.sleep(0.1)
    assert len(called) == 1
    threading.Timer(0.1, lambda: c.put("w/once", "x")).start()
    assert c.watch_once("w/once", timeout=5).value == b"x"
    try:
        c.watch_once("w/never", timeout=0.2)
        raise AssertionError("an event from nowhere")
    except etcd3.exceptions.WatchTimedOut:
        pass
    c.compact(revision + 3)
    stale, cancel = c.watch("w/0", start_revision=1)
    try:
        next(stale)
        raise AssertionError("the past was compacted")
    except etcd3.exceptions.RevisionCompactedError as e:
        assert e.compacted_revision > 1
    cancel()


def test_many_watches(c, _):
    streams = [c.watch(f"many/{i}") for i in range(50)]
    for i in range(50):
        c.put(f"many/{i}", str(i))
    for i, (events, _) in enumerate(streams):
        assert next(events).value == str(i).encode()
    for _, cancel in streams:
        cancel()


def test_locks(c, server):
    other = server.client()
    first, second = c.lock("mutex", ttl=10), other.lock("mutex", ttl=10)
    assert first.acquire() and first.is_acquired()
    assert not second.is_acquired()
    assert first.release() and not first.release()
    assert second.acquire()
    assert second.refresh()[0].TTL == 10
    assert second.release()
    with c.lock("with", ttl=5) as lock:
        assert lock.is_acquired()
    other.close()


def test_members_and_status(c, server):
    status = c.status()
    assert status.version == "3.4.23" and status.db_size > 0 and status.leader
    assert status.raft_term > 1 and status.raft_index > 10
    members = list(c.members)
    assert len(members) == 1 and members[0].name == "m" and members[0].peer_urls
    assert status.leader.id == members[0].id
    members[0].update([*members[0].peer_urls])
    try:
        c.add_member([*members[0].peer_urls])
        raise AssertionError("the same URLs twice")
    except (grpc.RpcError, etcd3.exceptions.Etcd3Exception):
        pass
    assert list(c.members)[0].active_alarms is not None


def test_maintenance(c, _):
    c.defragment()
    assert c.hash()
    snapshot = io.BytesIO()
    c.snapshot(snapshot)
    assert len(snapshot.getvalue()) > 16384 and (len(snapshot.getvalue()) - 32) % 512 == 0
    assert not list(c.list_alarms())
    assert [a.alarm_type for a in c.create_alarm()] == [1]
    assert len(list(c.list_alarms())) == 1
    try:
        c.put("full", "x")
        raise AssertionError("written despite the alarm")
    except (grpc.RpcError, etcd3.exceptions.Etcd3Exception):
        pass
    assert len(list(c.disarm_alarm())) == 1
    c.put("full", "x")
    c.compact(c.get("full")[1].mod_revision, physical=True)


def test_auth(c, server):
    """The library offers no auth calls of its own: its stubs serve for them."""
    from etcd3.etcdrpc import rpc_pb2, rpc_pb2_grpc
    auth = rpc_pb2_grpc.AuthStub(c.channel)
    for name, password in (("root", "pw"), ("ann", "secret")):
        auth.UserAdd(rpc_pb2.AuthUserAddRequest(name=name, password=password))
    auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="reader"))
    permission = rpc_pb2.AuthRoleGrantPermissionRequest(name="reader")
    permission.perm.key = b"t"
    auth.RoleGrantPermission(permission)
    auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="ann", role="reader"))
    auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    auth.AuthEnable(rpc_pb2.AuthEnableRequest())
    root = server.client(user="root", password="pw")
    try:
        ann = server.client(user="ann", password="secret")
        # grpc sends call credentials over TLS only; the token goes as metadata, too.
        ann.call_credentials = root.call_credentials = None
        assert ann.get("t")[0] == b"replaced"
        for client, call in ((ann, lambda x: x.put("t", "no")), (c, lambda x: x.get("t"))):
            try:
                call(client)
                raise AssertionError("not refused")
            except (grpc.RpcError, etcd3.exceptions.Etcd3Exception):
                pass
        try:
            server.client(user="ann", password="wrong")
            raise AssertionError("a wrong password was taken")
        except (grpc.RpcError, etcd3.exceptions.Etcd3Exception):
            pass
        root.put("t", "by root")
        ann.close()
    finally:
        rpc_pb2_grpc.AuthStub(root.channel).AuthDisable(
            rpc_pb2.AuthDisableRequest(), metadata=root.metadata)
        root.close()


def test_pipelines(c, server):
    def work(i):
        mine = server.client()
        for n in range(50):
            mine.put(f"load/{i}/{n}", "x" * n)
        mine.close()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(list(c.get_prefix("load/"))) == 400


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--etcd", default=os.path.join(TOP, "etcd"))
    parser.add_argument("--tls", metavar="DIR")
    arguments = parser.parse_args()
    server = Server(arguments.etcd, arguments.tls)
    passed = failed = 0
    threading.excepthook = lambda _: None  # the library's, when its channel closes
    try:
        for name, test in list(globals().items()):
            if not name.startswith("test_"):
                continue
            client = server.client(timeout=10)
            try:
                test(client, server)
                passed += 1
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print("FAIL:", name)
                traceback.print_exc(file=sys.stdout)
            finally:
                client.close()
    finally:
        server.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
