#!/usr/bin/python3
"""WebSockets at the JSON gateway, by a client of our own: the same conversations
with a real etcd 3.4 and with ours, plain and by TLS, must tell the same story.
Then what ours does otherwise: it says Close, is as strict as RFC 6455, takes the
token of "Bearer, TOKEN", and heeds --cors.

  websocket.py
"""
import base64
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from differential import REAL, TOP, free_ports  # noqa: E402

OURS = os.path.join(TOP, "etcd")
WAIT_S, QUIET_S = 10, 0.2  # for what must come; and to see that nothing more does
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = {"Host": "x", "Upgrade": "websocket", "Connection": "Upgrade",
           "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}
MASKS = [(re.compile(p), r) for p, r in (
    (r'"(cluster_id|member_id|raft_term)":"\d+"', r'"\1":"N"'),
    (r'"key":"bG9jay[^"]*"', '"key":"LOCK"'))]

# --- The server and the client. ---------------------------------------------------


class Server:
    def __init__(self, program, certificate=None, *flags):
        self.certificate = certificate
        self.port, peer_port = free_ports(2)
        self.dir = tempfile.mkdtemp(prefix="etcd-test.")
        scheme = "https" if certificate else "http"
        client, peer = f"{scheme}://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer_port}"
        if certificate:
            flags += ("--cert-file", certificate + ".pem", "--key-file", certificate + ".key")
        self.log = open(os.path.join(self.dir, "log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            [program, "--name", "m", "--data-dir", os.path.join(self.dir, "data"), "--bcrypt-cost=4",
             "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", f"m={peer}", *flags],
            stdout=self.log, stderr=self.log)
        end = time.monotonic() + WAIT_S
        while b"etcdcluster\":\"3.4" not in self.ask("GET", "/version"):
            if time.monotonic() > end:
                with open(self.log.name, encoding="utf-8") as log:
                    raise SystemExit(f"{program} did not get ready: {log.read()}")
            time.sleep(0.05)

    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        if not self.certificate:
            return s
        context = ssl.create_default_context(cafile=self.certificate + ".pem")
        return context.wrap_socket(s, server_hostname="127.0.0.1")

    def ask(self, method, path, body=b""):
        """A request of HTTP: all that is answered."""
        answer = b""
        try:
            with self.connect() as s:
                s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                          f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                while data := s.recv(65536):
                    answer += data
        except OSError:
            pass
        return answer

    def post(self, path, body):
        answer = self.ask("POST", "/v3/" + path, json.dumps(body).encode())
        assert b" 200 " in answer.split(b"\r\n")[0], answer
        return answer

    def stop(self):
        self.process.send_signal(signal.SIGTERM)

    def close(self):
        self.stop()
        self.process.wait(WAIT_S)
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)


def frame(opcode, payload=b"", last=True, length=None, mask=True, size=None):
    """length and size of its field: others than there should be."""
    n = len(payload) if length is None else length
    size = size or (0 if n < 126 else 2 if n < 65536 else 8)
    head = bytes([(0x80 if last else 0) | opcode, (0x80 if mask else 0) | {0: n, 2: 126, 8: 127}[size]])
    head += n.to_bytes(size, "big") if size else b""
    if not mask:
        return head + payload
    key = b"\x12\x34\x56\x78"
    whole = int.from_bytes(payload, "big") ^ int.from_bytes((key * (len(payload) // 4 + 1))[:len(payload)], "big")
    return head + key + whole.to_bytes(len(payload), "big")


class Socket:
    def __init__(self, server, path, method="GET", headers=None, behind=b""):
        lines = "".join(f"{k}: {v}\r\n" for k, v in {**UPGRADE, **(headers or {})}.items() if v is not None)
        self.socket, self.input, self.has_ended, self.says_close = server.connect(), b"", False, False
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + behind)
        try:
            while b"\r\n\r\n" not in self.input:
                self.more(WAIT_S)
        except (EOFError, socket.timeout):
            pass
        head, _, self.input = self.input.partition(b"\r\n\r\n")
        self.head = head.decode()

    def more(self, seconds):
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 16)
        except (ConnectionError, ssl.SSLError) as e:  # theirs just hangs up
            raise EOFError from e
        if not data:
            raise EOFError
        self.input += data

    def send(self, *frames):
        try:
            for f in frames:
                self.socket.sendall(f)
        except OSError:  # it hears no more: what it said is still to be read
            pass

    def say(self, *texts):
        self.send(*(frame(TEXT, t if isinstance(t, bytes) else json.dumps(t).encode()) for t in texts))

    def say_close(self, code=None, why=b""):
        self.says_close = True
        self.send(frame(CLOSE, struct.pack(">H", code) + why if code else b""))

    def take(self, n, seconds):
        while len(self.input) < n:
            self.more(seconds)
        taken, self.input = self.input[:n], self.input[n:]
        return taken

    def hear_frame(self, seconds):
        while len(self.input) < 2:
            self.more(seconds)
        first, n = self.take(2, WAIT_S)
        assert n < 128, "a server's frame has a mask"
        if n > 125:
            size = 2 if n == 126 else 8
            n = int.from_bytes(self.take(size, WAIT_S), "big")
            assert n >= (126 if size == 2 else 65536), "not the shortest length"
        assert not first & 0x70
        return first & 0x80, first & 15, self.take(n, WAIT_S)

    def hear(self, seconds=WAIT_S):
        """What comes next, as a text; its frames are not told apart."""
        message = b""
        try:
            while True:
                last, opcode, payload = self.hear_frame(seconds)
                if opcode in (TEXT, 0):
                    message += payload
                    if last:
                        return masked(message.decode())
                elif opcode == CLOSE:
                    return "close" + (f" {struct.unpack('>H', payload[:2])[0]}" if payload else "")
                else:
                    return f"{opcode}: {payload.decode()}"
        except EOFError:
            self.has_ended = True
            return "end"
        except socket.timeout:
            return "nothing"

    def hear_all(self, n=0):
        """n things, and then what comes until the end or for a moment."""
        heard = [self.hear() for _ in range(n)]
        while not self.has_ended and (more := self.hear(QUIET_S)) != "nothing":
            heard.append(more)
        # Theirs just hangs up, where ours says why.
        if not self.says_close and heard[-2:] == ["close 1000", "end"]:
            del heard[-2]
        return heard


def masked(text):
    for pattern, replacement in MASKS:
        text = pattern.sub(replacement, text)
    return text


def b64(text):
    return base64.b64encode(text.encode()).decode()


# --- Conversations that must be the same. -----------------------------------------------


def story_watch(server):
    s = Socket(server, "/v3/watch")
    told = [s.head]
    s.say({"create_request": {"key": b64("w"), "range_end": b64("x")}})
    told += s.hear_all(1)
    server.post("kv/put", {"key": b64("w1"), "value": b64("1")})
    told += s.hear_all(1)
    s.say({"create_request": {"key": b64("v"), "watch_id": "7", "prev_kv": True}}, {"cancel_request": {"watch_id": "0"}})
    told += sorted(s.hear_all(2))
    server.post("kv/put", {"key": b64("w1"), "value": b64("2")})
    server.post("kv/put", {"key": b64("v"), "value": b64("2")})
    told += s.hear_all(1)
    s.say_close(1000, b"enough")
    return told + s.hear_all(2)


def story_large(server):
    for i in range(3):
        server.post("kv/put", {"key": b64(f"large{i}"), "value": b64(chr(97 + i) * 300000)})
    s = Socket(server, "/v3/kv/range")
    s.say({"key": b64("large"), "range_end": b64("largf")})
    told = s.hear_all(1)
    s = Socket(server, "/v3/watch")
    s.say({"create_request": {"key": b64("large"), "range_end": b64("largf")}})
    told += s.hear_all(1)
    server.post("kv/put", {"key": b64("large0"), "value": b64("e" * 1000000)})
    told += s.hear_all(1)
    s = Socket(server, "/v3/kv/put")
    s.say({"key": b64("large3"), "value": b64("d" * 1000000)})
    told += s.hear_all(1)
    s = Socket(server, "/v3/kv/put")
    s.say({"key": b64("large4"), "value": b64("d" * 2000000)})
    told += s.hear_all(1)
    s = Socket(server, "/v3/kv/put")
    s.say({"key": b64("large4"), "value": b64("d" * 2500000)})
    return told + s.hear_all(1)


def story_keepalive(server):
    """However requests are put into messages, and messages into frames."""
    told = []
    server.post("lease/grant", {"ID": "77", "TTL": "1000"})
    s = Socket(server, "/v3beta/lease/keepalive")
    for i in range(3):
        s.say({"ID": "77"})
        told.append(s.hear())
    s.say(b'{"ID":"77"} {"ID":"78"}')
    told += s.hear_all(2)
    s.say(b'{"ID":')
    told += s.hear_all()
    s.say(b'\n"77"')
    s.say(b'}{"ID"', b"", b" ", b':"79"}')
    told += s.hear_all(2)
    s.send(frame(BINARY, b'{"ID":"77"}'))
    told += s.hear_all(1)
    s.send(frame(TEXT, b'{"ID"', False), frame(0, b"", False), frame(PING, b"there?"))
    told += s.hear_all(1)
    s.send(frame(PONG, b"here"), frame(0, b':"77"', False), frame(0, b"}"))
    told += s.hear_all(1)
    s.send(frame(PING), frame(PING, b"p" * 125))
    told += s.hear_all(2)
    s.say(b"null")
    told += s.hear_all(1)
    s.say_close()
    return told + s.hear_all(2)


def story_mistakes(server):
    told = []
    for path in ("lease/keepalive", "kv/put"):
        for text in (b"nonsense", b'{"ID":"77"', b'{"ID":7"7}', b"[]", b"3", b'"text"', b"null", b'{"key":"?"}',
                     b'{"unknown":1}'):
            s = Socket(server, "/v3/" + path)
            s.say(text)
            told += [f"{path} {text}"] + s.hear_all()
    s = Socket(server, "/v3/lease/keepalive")
    s.say({"ID": "77"})
    told.append(s.hear())
    s.say(b'{"ID":nonsense}')
    told += s.hear_all(1)
    s = Socket(server, "/v3/watch")
    s.say({"create_request": {"key": b64("m")}}, b"nonsense")
    told.append(s.hear())
    server.post("kv/put", {"key": b64("m")})
    told += s.hear_all(1)
    s = Socket(server, "/v3/kv/range")
    s.say(b'{"key":"', b'bQ=="}')
    return told + s.hear_all(1)


def story_unary(server):
    told = []
    for path, *bodies in (
            ("kv/put", {"key": b64("u"), "value": b64("1")}),
            ("kv/put", b'{"key":"dQ==",', b'"prev_kv":true}'),
            ("kv/range", {"key": b64("u")}),
            ("kv/txn", {"success": [{"request_range": {"key": b64("u")}}]}),
            ("kv/deleterange?method=GET", {"key": b64("u"), "prev_kv": True}),
            ("kv/range", {"key": b64("u")}, {"key": b64("u")}),
            ("kv/range", {"key": b64("u"), "revision": "99999"}),
            ("lease/leases", {}),
            ("lock/lock", {"name": b64("lock")}),
            ("nothing", {}),
            ("", {})):
        s = Socket(server, "/v3/" + path)
        s.say(*bodies)
        told += [path] + s.hear_all(1)
    s = Socket(server, "/v3/lock/lock")
    s.say({"name": b64("lock")})
    return told + s.hear_all()


def story_handshake(server):
    told = []
    for method, path, headers in (
            ("GET", "/v3/watch", {"Connection": "keep-alive, upgrade", "Upgrade": "WebSocket"}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Version": "8"}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Version": None}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Key": None}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Key": "any"}),
            ("GET", "/v3/watch", {"Upgrade": "h2c"}),
            ("GET", "/v3/watch", {"Connection": None}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Extensions": "permessage-deflate"}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Protocol": "Bearer, token"}),
            ("GET", "/v3/watch", {"Sec-WebSocket-Protocol": "other"}),
            ("GET", "/v3/watch", {"Origin": "http://elsewhere"}),
            ("POST", "/v3/watch", {}),
            ("HEAD", "/v3/watch", {}),
            ("GET", "/version", {})):
        s = Socket(server, path, method, headers)
        lines = s.head.split("\r\n")
        told += [f"{method} {path} {headers}", lines[0]]
        told += sorted(line for line in lines if line.lower().startswith(("sec-", "upgrade", "connection")))
    return [line.replace("Websocket", "WebSocket") for line in told]


# Frames that RFC 6455 forbids, and the code of the answer.
FORBIDDEN = (
    (frame(TEXT, b"{}", mask=False), 1002),
    (b"\xc1" + frame(TEXT, b"{}")[1:], 1002),
    (b"\xa1" + frame(TEXT, b"{}")[1:], 1002),
    (b"\x91" + frame(TEXT, b"{}")[1:], 1002),
    (frame(3), 1002), (frame(7), 1002), (frame(11), 1002), (frame(15), 1002),
    (frame(PING, b"p" * 126), 1002),
    (frame(PING, b"", False), 1002),
    (frame(CLOSE, b"\x03\xe8", False), 1002),
    (frame(0, b"{}"), 1002),
    (frame(TEXT, b"{", False) + frame(TEXT, b"}"), 1002),
    (frame(CLOSE, b"\x03\xed"), 1002),
    (frame(CLOSE, b"\x03\xe7"), 1002),
    (frame(CLOSE, b"\x0b\xb7"), 1002),
    (frame(CLOSE, b"\x13\x88"), 1002))


def story_forbidden(server):
    told = []
    for frames, code in FORBIDDEN:
        s = Socket(server, "/v3/lease/keepalive")
        s.send(frames)
        heard = s.hear_all(1)
        assert heard == [f"close {code}", "end"], (frames, heard)
        told += heard
    for code in (1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999):
        s = Socket(server, "/v3/watch")
        s.say_close(code, b"why")
        told += s.hear_all(2)
    return told


# --- What ours does otherwise. --------------------------------------------------------------


def check_strict(server):
    large = b'{"key":"' + b"a" * 5000000 + b'"}'
    for frames, code in (
            (frame(TEXT, b"{}", size=2), 1002),
            (frame(TEXT, b"{}", size=8), 1002),
            (frame(TEXT, length=1 << 63), 1002),
            (frame(TEXT, length=(1 << 63) - 1), 1009),
            (frame(TEXT, large), 1009),
            (b"".join(frame(0 if i else TEXT, large[i:i + 100000], False) for i in range(0, len(large), 100000)), 1009),
            (frame(TEXT, b"{") + frame(TEXT, b" " * 65000) * 80, 1009),
            (frame(TEXT, b'{"key":"\xff"}'), 1007),
            (frame(TEXT, b"\xe2\x82", False) + frame(0, b"{"), 1007),
            (frame(CLOSE, b"\x03"), 1002),
            (frame(CLOSE, b"\x03\xe8\xff"), 1007)):
        s = Socket(server, "/v3/kv/put")
        s.send(frames)
        heard = s.hear_all(1)
        assert heard == [f"close {code}", "end"], (frames[:30], heard)
    s = Socket(server, "/v3/watch", behind=frame(TEXT, b"{}"))
    assert s.head.startswith("HTTP/1.1 400 "), s.head
    s = Socket(server, "/v3/watch", headers={"Content-Length": "2"}, behind=b"{}")
    assert s.head.startswith("HTTP/1.1 400 "), s.head


def check_close(server):
    """A unary call's answer is the end; who waits for a lock can leave."""
    s = Socket(server, "/v3/kv/range")
    s.say({"key": b64("a")})
    assert s.hear().startswith('{"header"') and (s.hear(), s.hear()) == ("close 1000", "end")
    s = Socket(server, "/v3/lock/lock")
    s.say({"name": b64("held")})
    assert s.hear().startswith('{"header"')
    waiter = Socket(server, "/v3/lock/lock")
    waiter.say({"name": b64("held")})
    waiter.send(frame(PING, b"?"))
    assert waiter.hear() == f"{PONG}: ?"
    waiter.say_close(1001)
    assert waiter.hear_all(2) == ["close 1001", "end"]


def check_token(server):
    for path, body in (("user/add", {"name": "root", "password": "pw"}), ("role/add", {"name": "root"}),
                       ("user/grant", {"user": "root", "role": "root"}), ("enable", {})):
        server.post("auth/" + path, body)
    answer = server.post("auth/authenticate", {"name": "root", "password": "pw"})
    token = json.loads(answer.split(b"\r\n\r\n")[1])["token"]
    for headers, want in (({}, "user name is empty"),
                          ({"Authorization": token}, "user name is empty"),
                          ({"Cookie": "token=" + token}, "user name is empty"),
                          ({"Sec-WebSocket-Protocol": token}, "user name is empty"),
                          ({"Sec-WebSocket-Protocol": "Bearer, wrong"}, "invalid auth token"),
                          ({"Sec-WebSocket-Protocol": "Bearer, " + token}, '"revision"'),
                          ({"Sec-WebSocket-Protocol": "Bearer," + token}, '"revision"')):
        s = Socket(server, "/v3/kv/put", headers=headers)
        s.say({"key": b64("t")})
        heard = s.hear_all(1)
        assert want in heard[0], (headers, heard)
    s = Socket(server, "/v3/watch", headers={"Sec-WebSocket-Protocol": "Bearer, " + token})
    s.say({"create_request": {"key": b64("t"), "start_revision": "1"}})
    assert '"created":true}' in s.hear() and '"events"' in s.hear()


def check_stop(server):
    watch, idle, unary = (Socket(server, "/v3/" + p) for p in ("watch", "lease/keepalive", "kv/put"))
    watch.say({"create_request": {"key": b64("s")}})
    watch.hear()
    began = time.monotonic()
    server.stop()
    assert '"http_status":"Service Unavailable"' in watch.hear()
    for s in (watch, idle, unary):
        assert (s.hear(), s.hear()) == ("close 1001", "end")
        s.socket.close()
    server.process.wait(WAIT_S)
    assert time.monotonic() - began < 2, time.monotonic() - began


def check_cors(server):
    for origin, host, status in ((None, "x", 101), ("http://ours.example:8080", "x", 101), ("https://x:1", "x:1", 101),
                                 ("http://elsewhere", "x", 403), ("null", "x", 403), ("http://x.elsewhere", "x", 403)):
        s = Socket(server, "/v3/watch", headers={"Origin": origin, "Host": host})
        assert s.head.startswith(f"HTTP/1.1 {status} "), (origin, s.head)


# --- All of them. -----------------------------------------------------------------------------


def make_certificate(folder):
    name = os.path.join(folder, "server")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", name + ".key", "-out", name + ".pem"], check=True, stderr=subprocess.DEVNULL)
    return name


def stories_of(program, certificate):
    server = Server(program, certificate)
    told = {}
    try:
        for name, story in list(globals().items()):
            if name.startswith("story_"):
                told[name] = story(server)
    finally:
        server.close()
    return told


def compare(what, certificate):
    theirs, ours = (stories_of(program, certificate) for program in (REAL, OURS))
    failed = 0
    for name, want in theirs.items():
        if want == ours[name]:
            continue
        failed += 1
        print(f"FAIL: {name}, {what}")
        for a, b in zip(want + ["nothing more"], ours[name] + ["nothing more"]):
            if a != b:
                print(f"  want {a[:300]}\n  got  {b[:300]}")
                break
    return len(theirs) - failed, failed


def check(function, certificate=None, *flags):
    server = Server(OURS, certificate, *flags)
    try:
        function(server)
        return 1, 0
    except Exception:  # pylint: disable=broad-except
        print("FAIL:", function.__name__, "by TLS" if certificate else "plain", *flags)
        traceback.print_exc(file=sys.stdout)
        return 0, 1
    finally:
        server.close()


def main():
    folder = tempfile.mkdtemp(prefix="etcd-test.")
    try:
        certificate = make_certificate(folder)
        sums = [compare("plain", None), compare("by TLS", certificate)]
        for c in (None, certificate):
            sums += [check(f, c) for f in (check_strict, check_close, check_token, check_stop)]
        sums.append(check(check_cors, None, "--cors", "http://ours.example:8080"))
    finally:
        shutil.rmtree(folder)
    passed, failed = (sum(column) for column in zip(*sums))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
