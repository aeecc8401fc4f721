#!/usr/bin/python3
"""What an API server's storage layer does, against our server and a real etcd
3.4 at once: optimistic transactions on mod_revision, paged lists at one
revision, watches from a revision with progress and the previous value, a lease
for each event, compaction agreed on by a key. Both must tell the same story."""
import os
import queue
import random
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
import grpc  # noqa: E402
from etcd3.etcdrpc import rpc_pb2 as pb, rpc_pb2_grpc as stubs  # noqa: E402
from python import Server, TOP, wait_until  # noqa: E402

OBJECTS = 300
ROUNDS = 1500


def end_of(prefix):
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Conflict(Exception):
    """Somebody else changed the object."""


class Storage:
    """The calls of an API server, each as it makes it."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)])
        self.kv, self.lease = stubs.KVStub(self.channel), stubs.LeaseStub(self.channel)
        self.watcher = stubs.WatchStub(self.channel)

    def guarded(self, key, revision, then):
        """One operation, if the key's mod_revision is as it was seen."""
        request = pb.TxnRequest(success=[then], failure=[pb.RequestOp(request_range=pb.RangeRequest(key=key))])
        request.compare.add(key=key, target=pb.Compare.MOD, result=pb.Compare.EQUAL, mod_revision=revision)
        answer = self.kv.Txn(request)
        if not answer.succeeded:
            raise Conflict(answer.responses[0].response_range.kvs)
        return answer

    def create(self, key, value, ttl=0):
        lease = self.lease.LeaseGrant(pb.LeaseGrantRequest(TTL=ttl)).ID if ttl else 0
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))
        return self.guarded(key, 0, put).header.revision

    def update(self, key, value, revision):
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))
        return self.guarded(key, revision, put).header.revision

    def delete(self, key, revision):
        gone = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
        answer = self.guarded(key, revision, gone)
        assert answer.responses[0].response_delete_range.deleted == 1
        return answer.header.revision

    def pages(self, prefix, limit):
        """All of a prefix at the first page's revision."""
        start, revision, found = prefix, 0, []
        while True:
            page = self.kv.Range(pb.RangeRequest(key=start, range_end=end_of(prefix), limit=limit, revision=revision))
            revision = revision or page.header.revision
            found += [(kv.key, kv.value, kv.mod_revision, kv.version) for kv in page.kvs]
            if not page.more:
                return revision, found, page.count
            start = page.kvs[-1].key + b"\0"

    def watch(self, prefix, revision):
        requests = queue.Queue()
        requests.put(pb.WatchRequest(create_request=pb.WatchCreateRequest(
            key=prefix, range_end=end_of(prefix), start_revision=revision, progress_notify=True, prev_kv=True)))
        return requests, self.watcher.Watch(iter(requests.get, None))

    def compact(self, seen, revision):
        """Whoever moves the key from what it saw may compact; the others learn."""
        request = pb.TxnRequest()
        request.compare.add(key=b"compact_rev_key", target=pb.Compare.VERSION, result=pb.Compare.EQUAL, version=seen)
        request.success.add().request_put.CopyFrom(pb.PutRequest(key=b"compact_rev_key", value=str(revision).encode()))
        request.failure.add().request_range.CopyFrom(pb.RangeRequest(key=b"compact_rev_key"))
        answer = self.kv.Txn(request)
        if not answer.succeeded:
            return answer.responses[0].response_range.kvs[0].version
        if revision:
            self.kv.Compact(pb.CompactionRequest(revision=revision))
        return seen + 1


class Cache:
    """What a watch tells: a reflector's store, and the story it was told."""

    def __init__(self, storage, prefix, revision, objects):
        self.objects = {key: value for key, value, _, _ in objects}
        self.story, self.newest = [], revision
        self.requests, answers = storage.watch(prefix, revision + 1)
        self.thread = threading.Thread(target=self.follow, args=(answers,), daemon=True)
        self.thread.start()

    def follow(self, answers):
        try:
            for answer in answers:
                for event in answer.events:
                    self.take(event)
                self.newest = max(self.newest, answer.header.revision)
        except grpc.RpcError:
            pass  # closed

    def take(self, event):
        kv, before = event.kv, event.prev_kv
        assert (before.value or None) == self.objects.get(kv.key), (kv.key, before.value)
        assert kv.mod_revision > (self.story[-1][1] if self.story else 0)
        self.story.append((kv.key, kv.mod_revision, kv.create_revision, kv.value, before.mod_revision))
        if event.type == event.DELETE:
            del self.objects[kv.key]
        else:
            self.objects[kv.key] = kv.value

    def wait(self, revision):
        wait_until(lambda: self.newest >= revision, 20)


def refused(call, code):
    try:
        call()
    except grpc.RpcError as e:
        assert e.code() == code, e
        return e.details()
    raise AssertionError("not refused")


def story_of(storage):
    """Everything that a client saw, to be compared; the same seed, the same story."""
    rng = random.Random(7)
    prefix = b"/registry/pods/"
    known, told = {}, []
    for i in range(OBJECTS):
        key = prefix + b"ns%d/pod-%04d" % (i % 7, i)
        known[key] = storage.create(key, b"{}" * rng.randrange(1, 400))
    revision, objects, count = storage.pages(prefix, 41)
    told.append((revision, objects, count))
    cache = Cache(storage, prefix, revision, objects)
    version = storage.compact(0, 0)
    for i in range(ROUNDS):
        key = rng.choice(sorted(known)) if known else None
        what = rng.random()
        if what < 0.6:
            known[key] = storage.update(key, b"v%d" % i, known[key])
        elif what < 0.7:
            storage.delete(key, known.pop(key))
        elif what < 0.8:
            key = prefix + b"ns9/new-%d" % i
            known[key] = storage.create(key, b"new")
        elif what < 0.9:
            try:
                storage.update(key, b"stale", known[key] - 1)
                raise AssertionError("a conflict went unseen")
            except Conflict as e:
                told.append([(kv.key, kv.mod_revision) for kv in e.args[0]])
        else:
            storage.create(b"/registry/events/e%d" % i, b"happened", ttl=3600)
        if i % 500 == 499:
            version = storage.compact(version, known[sorted(known)[0]])
            told.append(version)
    last = max(known.values())
    cache.wait(last)
    told += [cache.story, sorted(cache.objects.items())]
    told.append(storage.pages(prefix, 100))
    now = {key: value for key, value, _, _ in told[-1][1]}
    assert now == cache.objects, "the watch and the list disagree"
    told.append(storage.compact(0, 5))  # somebody who saw nothing of it learns the version
    told.append(refused(lambda: storage.kv.Range(pb.RangeRequest(key=prefix, revision=revision)), grpc.StatusCode.OUT_OF_RANGE))
    requests, answers = storage.watch(prefix, 2)
    next(answers)
    canceled = next(answers)
    told.append((canceled.canceled, canceled.compact_revision))
    requests.put(None)
    requests, answers = storage.watch(prefix, 0)
    next(answers)
    requests.put(pb.WatchRequest.FromString(b"\x1a\0"))  # progress_request; the library is too old for it
    told.append((next(answers).header.revision, len(told)))
    requests.put(None)
    cache.requests.put(None)
    return told


def main():
    passed = failed = 0
    stories = []
    for program in (os.environ.get("REAL_ETCD", "/usr/bin/etcd"), os.path.join(TOP, "etcd")):
        server = Server(program, None)
        storage = Storage(server.port)
        began = time.monotonic()
        try:
            stories.append(story_of(storage))
            passed += 1
            print(f"{program}: {time.monotonic() - began:.1f} s")
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("FAIL:", program)
            traceback.print_exc(file=sys.stdout)
        storage.channel.close()
        server.close()
    if len(stories) == 2 and len(stories[0]) == len(stories[1]):
        for n, (want, got) in enumerate(zip(*stories)):
            if want == got:
                passed += 1
                continue
            failed += 1
            print(f"FAIL: part {n}: want {str(want)[:300]} got {str(got)[:300]}")
    else:
        failed += 1
        print("FAIL: stories of different lengths")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
