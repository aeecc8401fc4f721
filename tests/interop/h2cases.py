#!/usr/bin/python3
"""Is our server's HTTP/2 what the RFCs demand? Each case is a row of a table: the
section, what is sent, and what must come of it.

  h2cases.py [WORD...]     only cases whose names contain all the words

The first tables make the checks of h2spec 2.6 again, all 146, from the text of
RFC 7540 and 7541, whose sections number them (3.5, 5.3 and 8.1.2 are 3.4, none
and 8.2, 8.3 in RFC 9113). h2spec knows nothing of gRPC: its requests are GET and
POST without a content-type, which we answer with 415. So cases that take a
request are made with both: such a "plain" one and a "call". The others are
what RFC 9113 says beyond that. No case sleeps: an answer to PING tells that all
before it was handled. All of it once more over TLS, on a listener beside.
"""
import collections
import contextlib
import itertools
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from differential import TOP, free_ports  # noqa: E402
from websocket import make_certificate  # noqa: E402

OURS = os.path.join(TOP, "etcd")
READY_S, WAIT_S = 20, 3  # for the server to start; for what must come
STREAMS_MAX = 50  # what the server allows, for 5.1.2

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
WHOLE = END_STREAM | END_HEADERS
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM) = range(12)
(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
 MAX_HEADER_LIST_SIZE) = range(1, 7)
WINDOW_MAX, FRAME_MAX = 2**31 - 1, 16384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Frame = collections.namedtuple("Frame", "kind flags stream payload")

# --- What is sent. ------------------------------------------------------------------


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def number(value, prefix=7, first=0):
    """RFC 7541, 5.1; first: the bits before the prefix."""
    most = (1 << prefix) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def text(s):
    raw = s if isinstance(s, bytes) else s.encode("latin-1")
    return number(len(raw)) + raw


def huffman(code):
    return number(len(code), 7, 0x80) + code


def block(fields):
    """Of literals that touch no table; what is bytes is encoded already."""
    return b"".join(f if isinstance(f, bytes) else b"\0" + text(f[0]) + text(f[1]) for f in fields)


def headers(stream, fields, flags=END_HEADERS):
    return frame(HEADERS, flags, stream, fields if isinstance(fields, bytes) else block(fields))


def continuation(stream, fields, flags=END_HEADERS):
    return frame(CONTINUATION, flags, stream, block(fields))


def data(stream, payload=b"test", flags=END_STREAM):
    return frame(DATA, flags, stream, payload)


def priority(stream, depends_on=0, weight=255, exclusive=False):
    return frame(PRIORITY, 0, stream, struct.pack(">IB", depends_on | exclusive << 31, weight))


def rst_stream(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def ping(payload=b"pingping", flags=0, stream=0):
    return frame(PING, flags, stream, payload)


def goaway(code=NO_ERROR, last=0, stream=0):
    return frame(GOAWAY, 0, stream, struct.pack(">II", last, code) + b"bye")


def window_update(stream, by):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", by))


DUMMY = [("x-dummy", "x" * 4000)]
RANGE = b"\0\0\0\0\x03\x0a\x01k"  # a gRPC message: the key "k"


class Request:
    """The kinds of requests; each head with the fields `extra` behind."""

    def __init__(self, name, method, path, *fields):
        self.name, self.body = name, b"test"
        self.fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "127.0.0.1"), *fields]

    def open(self, stream=1, extra=(), flags=END_HEADERS):
        return headers(stream, self.fields + list(extra), flags)

    def ended(self, stream=1, extra=()):
        """Without a body."""
        return self.open(stream, extra, WHOLE)

    def whole(self, stream=1, extra=()):
        return self.open(stream, extra) + data(stream, self.body)

    def without(self, *names):
        return [f for f in self.fields if f[0] not in names]

    def with_value(self, name, value):
        return [(n, value if n == name else v) for n, v in self.fields]


PLAIN = Request("plain", "POST", "/")
CALL = Request("call", "POST", "/etcdserverpb.KV/Range", ("content-type", "application/grpc"), ("te", "trailers"))
CALL.body = RANGE
KEEP_ALIVE = Request("stream", "POST", "/etcdserverpb.Lease/LeaseKeepAlive", *CALL.fields[4:])
PUT = Request("put", "POST", "/etcdserverpb.KV/Put", *CALL.fields[4:])
GET, HEAD = Request("plain", "GET", "/"), Request("plain", "HEAD", "/")

# --- The client. ----------------------------------------------------------------------


class Closed(Exception):
    pass


class Connection:
    """All frames that come are kept; `heard` of them were waited for."""

    def __init__(self, door, handshake=True):
        port, tls = door
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self.input, self.frames, self.heard, self.closed, self.settings = b"", [], 0, False, {}
        if handshake:
            self.send(PREFACE + settings())
            self.settings = dict(struct.iter_unpack(">HI", self.wait("SETTINGS", is_settings).payload))
            self.send(frame(SETTINGS, ACK))
            self.wait("the acknowledgement of SETTINGS", is_ack)

    def close(self):
        self.socket.close()

    def send(self, raw):
        try:
            self.socket.sendall(raw)
        except OSError:  # it hears no more: what it said is still to be read
            pass

    def more(self, end):
        """Read what there is, until the time `end` if need be. False: there is nothing."""
        self.socket.settimeout(max(end - time.monotonic(), 0.001))
        try:
            raw = self.socket.recv(1 << 16)
        except socket.timeout:
            return False
        except OSError:
            raw = b""
        if not raw:
            self.closed = True
            return False
        self.input += raw
        while len(self.input) >= 9:
            n = int.from_bytes(self.input[:3], "big")
            if len(self.input) < 9 + n:
                break
            kind, flags, stream = struct.unpack(">BBI", self.input[3:9])
            self.frames.append(Frame(kind, flags, stream & WINDOW_MAX, self.input[9:9 + n]))
            self.input = self.input[9 + n:]
        return True

    def wait(self, what, is_it):
        """The next frame of which is_it() is true."""
        end = time.monotonic() + WAIT_S
        while True:
            while self.heard < len(self.frames):
                self.heard += 1
                if is_it(self.frames[self.heard - 1]):
                    return self.frames[self.heard - 1]
            if not self.more(end):
                raise Closed(f"want {what}, got {self.story()}")

    def barrier(self):
        self.send(ping(b"barrier!"))
        self.wait("an answer to PING", lambda f: f.kind == PING and f.flags & ACK and f.payload == b"barrier!")

    def until_closed(self):
        end = time.monotonic() + WAIT_S
        while self.more(end):
            pass
        return self.closed

    def story(self):
        """What came since the handshake, in a line."""
        return " ".join([story_of(f) for f in self.frames if f.kind != SETTINGS] + ["close"] * self.closed) or "nothing"


def code_of(f):
    """Of RST_STREAM and GOAWAY."""
    return int.from_bytes(f.payload[4:8] if f.kind == GOAWAY else f.payload[:4], "big")


def story_of(f):
    name = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
            "CONTINUATION")[f.kind]
    end = "+end" if f.kind in (DATA, HEADERS) and f.flags & END_STREAM else ""
    code = f":{code_of(f)}" if f.kind in (RST_STREAM, GOAWAY) else ""
    return f"{name}{code}{end}({f.stream})"


def is_settings(f):
    return f.kind == SETTINGS and not f.flags & ACK


def is_ack(f):
    return f.kind == SETTINGS and f.flags & ACK


def is_data(f):
    return f.kind == DATA


def ends(stream):
    return lambda f: f.kind in (DATA, HEADERS) and f.stream == stream and f.flags & END_STREAM


# --- What must come of it: functions of the connection, which raise if it does not. ------------


def fail(c, what):
    raise AssertionError(f"want {what}, got {c.story()}")


def connection_error(*codes):
    """GOAWAY of one of the codes, then the end (5.4.1)."""
    def check(c):
        closed = c.until_closed()
        said = [code_of(f) for f in c.frames if f.kind == GOAWAY]
        if not closed or len(said) != 1 or said[0] not in codes:
            fail(c, f"GOAWAY of {codes} and the end")
    return check


def stream_error(*codes, stream=1):
    """RST_STREAM of one of the codes (5.4.2); the connection goes on."""
    def check(c):
        c.wait(f"RST_STREAM of {codes}", lambda f: f.kind == RST_STREAM and f.stream == stream and code_of(f) in codes)
        c.barrier()
        unharmed(c)
    return check


def either_error(*codes):
    """A connection error will do as well."""
    def check(c):
        f = c.wait(f"an error of {codes}", lambda f: f.kind in (RST_STREAM, GOAWAY) and code_of(f) in codes)
        if f.kind == GOAWAY and not c.until_closed():
            fail(c, "the end")
    return check


def unharmed(c):
    if c.closed or any(f.kind == GOAWAY for f in c.frames):
        fail(c, "no GOAWAY")


def goes_on(c):
    """PING is answered, and nothing had an error."""
    c.barrier()
    unharmed(c)
    if any(f.kind == RST_STREAM and code_of(f) != NO_ERROR for f in c.frames):
        fail(c, "no RST_STREAM")


def answered(*streams):
    """A response in full, and no error."""
    def check(c):
        for stream in streams or (1,):
            c.wait(f"a response on stream {stream}", ends(stream))
        goes_on(c)
    return check


def well_answered(c):
    """With a message of gRPC and trailers."""
    answered()(c)
    if sum(len(f.payload) for f in c.frames if is_data(f)) <= 5:
        fail(c, "a message")


def closed(c):
    """Without HTTP/2, there is no GOAWAY."""
    if not c.until_closed():
        fail(c, "the end")


def pong(c):
    f = c.wait("an answer to PING", lambda f: f.kind == PING)
    if f.flags != ACK or f.payload != b"pingping":
        fail(c, "an answer like the PING")


def bytes_of_data(n):
    """The next DATA has so many bytes: all that the window lets through."""
    def check(c):
        if len(c.wait("DATA", is_data).payload) != n:
            fail(c, f"DATA of {n} bytes")
        c.barrier()
        if any(is_data(f) for f in c.frames[c.heard:]):
            fail(c, "no more DATA")
    return check


def sum_of_data(n):
    """So much came in all: no frame of more than the default size, and no byte more."""
    def check(c):
        while sum(len(f.payload) for f in c.frames if is_data(f)) < n:
            c.wait(f"{n} bytes of DATA", is_data)
        c.barrier()
        sizes = [len(f.payload) for f in c.frames if is_data(f)]
        if sum(sizes) != n or max(sizes) > FRAME_MAX:
            fail(c, f"{n} bytes of DATA by {FRAME_MAX}")
    return check


def block_begins_with(first):
    def check(c):
        if not c.wait("HEADERS", lambda f: f.kind == HEADERS).payload.startswith(first):
            fail(c, f"a header block that begins with {first}")
    return check


def last_stream(n):
    """GOAWAY names the last stream that was acted upon (6.8)."""
    def check(c):
        f = c.wait("GOAWAY", lambda f: f.kind == GOAWAY)
        if int.from_bytes(f.payload[:4], "big") != n or not c.until_closed():
            fail(c, f"GOAWAY with the last stream {n} and the end")
    return check


# --- Steps between what is sent. -----------------------------------------------------------


def end_of(stream):
    return lambda c: c.wait(f"the end of stream {stream}", ends(stream))


def acknowledged(c):
    c.wait("the acknowledgement of SETTINGS", is_ack)


def head_came(c):
    c.wait("HEADERS", lambda f: f.kind == HEADERS)


# --- The cases: section, what, steps and last what must come of it. --------------------------

NO_WINDOW = settings((INITIAL_WINDOW_SIZE, 0))  # keeps answers of calls from ending
UNKNOWN = frame(0x16, 0, 0, bytes(8))


def h2spec_generic(q, get):
    """h2spec's part "generic": what it must accept. q, get: requests, with a body and without."""
    return [
        ("3.5", "a preface and a request", get.ended(), answered()),
        ("5.1", "half-closed (remote): WINDOW_UPDATE", get.ended(), window_update(1, 1), answered()),
        ("5.1", "half-closed (remote): PRIORITY", get.ended(), priority(1), window_update(1, 1), answered()),
        ("5.1", "half-closed (remote): RST_STREAM", get.ended(), rst_stream(1), goes_on),
        ("5.1", "closed: PRIORITY", get.ended(), end_of(1), priority(1), goes_on),
        ("6.1", "DATA", q.whole(), answered()),
        ("6.1", "several DATA", q.open(), data(1, q.body[:2], 0), data(1, q.body[2:]), answered()),
        ("6.1", "DATA with padding", q.open(), data(1, b"\x05" + q.body + bytes(5), END_STREAM | PADDED), answered()),
        ("6.2", "HEADERS", get.ended(), answered()),
        ("6.2", "HEADERS with padding", headers(1, b"\x05" + block(get.fields) + bytes(5), WHOLE | PADDED), answered()),
        ("6.2", "HEADERS with priority", headers(1, bytes(4) + b"\xff" + block(get.fields), WHOLE | PRIORITIZED),
         answered()),
        ("6.3", "PRIORITY of weight 1", priority(1, 0, 0), get.ended(), answered()),
        ("6.3", "PRIORITY of weight 256", priority(1, 0, 255), get.ended(), answered()),
        ("6.3", "PRIORITY that depends on a stream", priority(3, 1, 0), get.ended(), answered()),
        ("6.3", "PRIORITY, exclusive", priority(1, 0, 0, True), get.ended(), answered()),
        ("6.3", "PRIORITY of an idle stream, HEADERS of a lower one", priority(3), get.ended(), answered()),
        ("6.4", "RST_STREAM", q.open(), rst_stream(1), goes_on),
        ("6.9", "WINDOW_UPDATE of a stream", get.ended(), window_update(1, 1), answered()),
        ("6.10", "CONTINUATION", get.open(flags=END_STREAM), continuation(1, DUMMY), answered()),
        ("6.10", "several CONTINUATION", get.open(flags=END_STREAM), continuation(1, DUMMY, 0), continuation(1, DUMMY),
         answered()),
        ("8.1", "a request without a body", get.ended(), answered()),
        ("8.1", "a request of HEAD", HEAD.ended(), answered()),
        ("8.1", "a request with a body", q.whole(), answered()),
        ("8.1", "a request with trailers", q.open(1, [("trailer", "x-test")]), data(1, q.body, 0),
         headers(1, [("x-test", "ok")], WHOLE), answered())]


# RFC 7541, C.4 and C.6: Huffman codes of "custom-key", "custom-value".
KEY, VALUE = bytes.fromhex("25a849e95ba97d7f"), bytes.fromhex("25a849e95bb8e8b4bf")
CUSTOM, CUSTOM_HUFFMAN = text("custom-key") + text("custom-value"), huffman(KEY) + huffman(VALUE)


def h2spec_hpack_accepted(get):
    rows = [
        ("hpack 6.1", "an indexed field", [b"\xba"]),
        ("hpack 6.3", "a table size update", None, b"\x20"),
        ("hpack 4.2", "two table size updates", None, b"\x20\x3f\xe1\x1f")]
    for section, what, first, prefix in (("6.2.1", "with indexing", 0x40, 6), ("6.2.2", "without indexing", 0, 4),
                                         ("6.2.3", "never indexed", 0x10, 4)):
        user_agent, new = number(58, prefix, first), bytes([first])
        rows += [
            ("hpack " + section, f"a literal {what}, indexed name", [user_agent + text("custom-value")]),
            ("hpack " + section, f"a literal {what}, indexed name, Huffman", [user_agent + huffman(VALUE)]),
            ("hpack " + section, f"a literal {what}, new name", [new + CUSTOM]),
            ("hpack " + section, f"a literal {what}, new name, Huffman", [new + CUSTOM_HUFFMAN])]
    return [(section, what, headers(1, b"".join(before) + block(get.fields + (extra or [])), WHOLE), answered())
            for section, what, extra, *before in rows]


def h2spec_accepted():
    """Without a request, and those that take an answer with DATA."""
    return [
        ("5.1", "idle: PRIORITY", priority(1), goes_on),
        ("6.5", "SETTINGS", settings((ENABLE_PUSH, 0)), acknowledged, goes_on),
        ("6.7", "PING", ping(), pong),
        ("6.8", "GOAWAY", goaway(), goes_on),
        ("6.9", "WINDOW_UPDATE of the connection", window_update(0, 1), goes_on),
        ("5.1", "half-closed (remote): WINDOW_UPDATE lets DATA through", NO_WINDOW, CALL.whole(), head_came,
         window_update(1, 1), bytes_of_data(1)),
        ("5.1", "half-closed (remote): PRIORITY, then WINDOW_UPDATE lets DATA through", NO_WINDOW, CALL.whole(),
         head_came, priority(1), window_update(1, 1), bytes_of_data(1))]


def h2spec_states(q, get):
    """h2spec's part "http2", sections 3 to 5: with a request."""
    return [
        ("4.1", "flags that are not defined", ping(flags=0x16), pong),
        ("4.1", "the reserved bit", ping(stream=1 << 31), pong),
        ("4.2", "DATA of 2^14 bytes", q.open(), data(1, bytes(FRAME_MAX)), answered()),
        ("4.2", "DATA larger than that", q.open(), data(1, bytes(FRAME_MAX + 1)), either_error(FRAME_SIZE_ERROR)),
        ("4.2", "HEADERS larger than that", get.ended(1, DUMMY * 5), connection_error(FRAME_SIZE_ERROR)),
        ("4.3", "PRIORITY inside a header block", q.open(flags=0), priority(1), continuation(1, DUMMY),
         connection_error(PROTOCOL_ERROR)),
        ("4.3", "HEADERS of another stream inside a header block", q.open(flags=0), get.ended(3),
         continuation(1, DUMMY), connection_error(PROTOCOL_ERROR)),
        ("5.1", "half-closed (remote): DATA", get.ended(), data(1), either_error(STREAM_CLOSED)),
        ("5.1", "half-closed (remote): HEADERS", get.ended(), get.ended(), either_error(STREAM_CLOSED)),
        ("5.1", "half-closed (remote): CONTINUATION", get.ended(), continuation(1, get.fields),
         either_error(STREAM_CLOSED, PROTOCOL_ERROR)),
        ("5.1", "closed by RST_STREAM: DATA", q.open(), rst_stream(1), data(1), either_error(STREAM_CLOSED)),
        ("5.1", "closed by RST_STREAM: HEADERS", q.open(), rst_stream(1), get.ended(), either_error(STREAM_CLOSED)),
        ("5.1", "closed by RST_STREAM: CONTINUATION", q.open(), rst_stream(1), continuation(1, DUMMY),
         either_error(STREAM_CLOSED, PROTOCOL_ERROR)),
        ("5.1", "closed: DATA", get.ended(), end_of(1), data(1), connection_error(STREAM_CLOSED)),
        ("5.1", "closed: HEADERS", get.ended(), end_of(1), get.ended(), connection_error(STREAM_CLOSED)),
        ("5.1", "closed: CONTINUATION", get.ended(), end_of(1), continuation(1, DUMMY),
         connection_error(STREAM_CLOSED, PROTOCOL_ERROR)),
        ("5.1.1", "an even stream id", get.ended(2), connection_error(PROTOCOL_ERROR)),
        ("5.1.1", "a lower stream id than before", get.ended(5), get.ended(3), connection_error(PROTOCOL_ERROR)),
        ("5.3.1", "HEADERS that depend on their own stream",
         headers(1, struct.pack(">IB", 1, 255) + block(get.fields), WHOLE | PRIORITIZED), either_error(PROTOCOL_ERROR)),
        ("5.5", "a frame of an unknown type inside a header block", get.open(flags=END_STREAM), UNKNOWN,
         connection_error(PROTOCOL_ERROR))]


def h2spec_frames(q, get):
    """Section 6 and 7: with a request."""
    return [
        ("6.1", "DATA for a stream that is not open", get.ended(), data(1), either_error(STREAM_CLOSED)),
        ("6.1", "DATA with more padding than frame", q.open(1, [("content-length", "4")]),
         data(1, b"\x06test", END_STREAM | PADDED), connection_error(PROTOCOL_ERROR)),
        ("6.2", "PRIORITY behind HEADERS without END_HEADERS", q.open(flags=0), priority(1),
         connection_error(PROTOCOL_ERROR)),
        ("6.2", "HEADERS of another stream behind those without END_HEADERS", q.open(flags=0), get.ended(3),
         connection_error(PROTOCOL_ERROR)),
        ("6.2", "HEADERS on stream 0", get.ended(0), connection_error(PROTOCOL_ERROR)),
        ("6.2", "HEADERS with more padding than frame", headers(1, b"\xfe" + block(get.fields), WHOLE | PADDED),
         connection_error(PROTOCOL_ERROR)),
        ("6.3", "PRIORITY of 4 bytes", get.ended(), frame(PRIORITY, 0, 1, bytes(4)), either_error(FRAME_SIZE_ERROR)),
        ("6.4", "RST_STREAM of 3 bytes", q.open(), frame(RST_STREAM, 0, 1, bytes(3)),
         connection_error(FRAME_SIZE_ERROR)),
        ("6.9", "WINDOW_UPDATE of a stream by 0", q.open(), window_update(1, 0), either_error(PROTOCOL_ERROR)),
        ("6.9.1", "WINDOW_UPDATE of a stream to more than 2^31-1", q.open(), window_update(1, WINDOW_MAX),
         window_update(1, WINDOW_MAX), stream_error(FLOW_CONTROL_ERROR)),
        ("6.10", "several CONTINUATION", get.open(flags=END_STREAM), continuation(1, DUMMY, 0), continuation(1, DUMMY),
         answered()),
        ("6.10", "DATA behind CONTINUATION", q.open(flags=0), continuation(1, DUMMY, 0), data(1),
         connection_error(PROTOCOL_ERROR)),
        ("6.10", "CONTINUATION on stream 0", get.open(flags=END_STREAM), continuation(0, DUMMY),
         connection_error(PROTOCOL_ERROR)),
        ("6.10", "CONTINUATION behind HEADERS with END_HEADERS", get.ended(), continuation(1, DUMMY),
         connection_error(PROTOCOL_ERROR)),
        ("6.10", "CONTINUATION behind one with END_HEADERS", get.open(flags=END_STREAM), continuation(1, DUMMY),
         continuation(1, DUMMY), connection_error(PROTOCOL_ERROR)),
        ("6.10", "CONTINUATION behind DATA", q.open(), data(1), continuation(1, DUMMY, 0),
         connection_error(PROTOCOL_ERROR)),
        ("7", "RST_STREAM with an unknown code", q.open(), rst_stream(1, 0xff), goes_on)]


def h2spec_conn():
    """Those of "http2" that take no request, or one with an answer that has DATA."""
    return [
        ("4.1", "a frame of an unknown type", UNKNOWN, goes_on),
        ("4.3", "a header block that cannot be decoded", headers(1, b"\x40", WHOLE),
         connection_error(COMPRESSION_ERROR)),
        ("5.1", "idle: DATA", data(1), connection_error(PROTOCOL_ERROR)),
        ("5.1", "idle: RST_STREAM", rst_stream(1), connection_error(PROTOCOL_ERROR)),
        ("5.1", "idle: WINDOW_UPDATE", window_update(1, 100), connection_error(PROTOCOL_ERROR)),
        ("5.1", "idle: CONTINUATION", continuation(1, CALL.fields), connection_error(PROTOCOL_ERROR)),
        ("5.1.2", "one stream more than is allowed", NO_WINDOW,
         b"".join(CALL.whole(2 * i + 1) for i in range(STREAMS_MAX + 1)),
         stream_error(PROTOCOL_ERROR, REFUSED_STREAM, stream=2 * STREAMS_MAX + 1)),
        ("5.3.1", "PRIORITY that depends on its own stream", priority(2, 2), either_error(PROTOCOL_ERROR)),
        ("5.4.1", "the connection is closed after an error", ping(stream=3), closed),
        ("5.4.1", "GOAWAY tells of an error", ping(stream=3), connection_error(PROTOCOL_ERROR)),
        ("5.5", "a frame of an unknown type", UNKNOWN, ping(), pong),
        ("6.1", "DATA on stream 0", data(0), connection_error(PROTOCOL_ERROR)),
        ("6.3", "PRIORITY on stream 0", priority(0), connection_error(PROTOCOL_ERROR)),
        ("6.4", "RST_STREAM on stream 0", rst_stream(0), connection_error(PROTOCOL_ERROR)),
        ("6.4", "RST_STREAM of an idle stream", rst_stream(1), connection_error(PROTOCOL_ERROR)),
        ("6.5", "SETTINGS with ACK and a payload", frame(SETTINGS, ACK, 0, bytes(1)),
         connection_error(FRAME_SIZE_ERROR)),
        ("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), connection_error(PROTOCOL_ERROR)),
        ("6.5", "SETTINGS of 3 bytes", frame(SETTINGS, 0, 0, bytes(3)), connection_error(FRAME_SIZE_ERROR)),
        ("6.5.2", "ENABLE_PUSH of 2", settings((ENABLE_PUSH, 2)), connection_error(PROTOCOL_ERROR)),
        ("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings((INITIAL_WINDOW_SIZE, 1 << 31)),
         connection_error(FLOW_CONTROL_ERROR)),
        ("6.5.2", "MAX_FRAME_SIZE of 2^14-1", settings((MAX_FRAME_SIZE, 2**14 - 1)), connection_error(PROTOCOL_ERROR)),
        ("6.5.2", "MAX_FRAME_SIZE of 2^24", settings((MAX_FRAME_SIZE, 2**24)), connection_error(PROTOCOL_ERROR)),
        ("6.5.2", "an unknown setting", settings((0xff, 1)), goes_on),
        ("6.5.3", "settings count in their order", settings((INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)),
         acknowledged, CALL.whole(), bytes_of_data(1)),
        ("6.5.3", "SETTINGS are acknowledged", settings((ENABLE_PUSH, 0)), acknowledged, goes_on),
        ("6.7", "PING is answered", ping(), pong),
        ("6.7", "PING with ACK is not", ping(b"acked...", ACK), ping(), pong),
        ("6.7", "PING on a stream", ping(stream=1), connection_error(PROTOCOL_ERROR)),
        ("6.7", "PING of 6 bytes", ping(bytes(6)), connection_error(FRAME_SIZE_ERROR)),
        ("6.8", "GOAWAY on a stream", goaway(stream=1), connection_error(PROTOCOL_ERROR)),
        ("6.9", "WINDOW_UPDATE of the connection by 0", window_update(0, 0), connection_error(PROTOCOL_ERROR)),
        ("6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), connection_error(FRAME_SIZE_ERROR)),
        ("6.9.1", "DATA keeps to a window of 1", settings((INITIAL_WINDOW_SIZE, 1)), acknowledged, CALL.whole(),
         bytes_of_data(1)),
        ("6.9.1", "WINDOW_UPDATE of the connection to more than 2^31-1", window_update(0, WINDOW_MAX),
         window_update(0, WINDOW_MAX), connection_error(FLOW_CONTROL_ERROR)),
        ("6.9.2", "INITIAL_WINDOW_SIZE moves the windows of open streams", NO_WINDOW, acknowledged, CALL.whole(),
         head_came, settings((INITIAL_WINDOW_SIZE, 1)), bytes_of_data(1)),
        ("6.9.2", "a window may become negative", settings((INITIAL_WINDOW_SIZE, 3)), acknowledged, CALL.whole(),
         bytes_of_data(3), settings((INITIAL_WINDOW_SIZE, 2)), acknowledged, window_update(1, 2), bytes_of_data(1)),
        ("6.9.2", "INITIAL_WINDOW_SIZE of more than 2^31-1", settings((INITIAL_WINDOW_SIZE, WINDOW_MAX + 1)),
         connection_error(FLOW_CONTROL_ERROR)),
        ("7", "GOAWAY with an unknown code", goaway(0xff), goes_on),
        ("8.2", "PUSH_PROMISE of a client", CALL.open(), frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"),
         connection_error(PROTOCOL_ERROR))]


def h2spec_messages(q, get):
    """Section 8: malformed requests."""
    malformed = stream_error(PROTOCOL_ERROR)
    part = q.body[:3]  # a call with a whole message could be answered before the rest comes
    test = [("x-test", "ok")]
    rows = [
        ("8.1", "a second HEADERS without END_STREAM", q.open(), data(1, part, 0), headers(1, test)),
        ("8.1.2", "a name in upper case", get.ended(1, [("X-TEST", "ok")])),
        ("8.1.2.1", "an unknown pseudo field", headers(1, get.fields + [(":test", "ok")], WHOLE)),
        ("8.1.2.1", "a pseudo field of responses", headers(1, get.fields + [(":status", "200")], WHOLE)),
        ("8.1.2.1", "a pseudo field in trailers", q.open(), data(1, part, 0),
         headers(1, [(":method", "POST")], WHOLE)),
        ("8.1.2.1", "a pseudo field behind another", headers(1, test + get.fields, WHOLE)),
        ("8.1.2.2", "a field of the connection", get.ended(1, [("connection", "keep-alive")])),
        ("8.1.2.2", "te other than trailers",
         headers(1, get.without("te") + [("te", "trailers, deflate;q=0.5")], WHOLE)),
        ("8.1.2.3", "an empty :path", headers(1, get.with_value(":path", ""), WHOLE)),
        ("8.1.2.6", "content-length is not DATA's", q.open(1, [("content-length", "1")]), data(1, q.body)),
        ("8.1.2.6", "content-length is not the sum of DATA's", q.open(1, [("content-length", "1")]),
         data(1, part, 0), data(1, part))]
    for name in (":method", ":scheme", ":path"):
        again = [f for f in get.fields if f[0] == name]
        rows += [("8.1.2.3", f"no {name}", headers(1, get.without(name), WHOLE)),
                 ("8.1.2.3", f"two {name}", headers(1, again + get.fields, WHOLE))]
    return [row + (malformed,) for row in rows]


def h2spec_hpack(get):
    undecodable = connection_error(COMPRESSION_ERROR)
    name = b"\0" + text("x-test")
    return [(f"hpack {section}", what, headers(1, before + block(get.fields + [behind]), WHOLE), undecodable)
            for section, what, before, behind in (
                ("2.3.3", "an index of neither table", b"", number(70, 7, 0x80)),
                ("2.3.3", "a literal's name of neither table", b"", number(70, 6, 0x40) + text("empty")),
                ("4.2", "a table size update at the end of a block", b"", b"\x20"),
                ("5.2", "Huffman padding of more than 7 bits", b"", name + huffman(VALUE + b"\xff")),
                ("5.2", "Huffman padding of zeros", b"", name + huffman(b"\x18")),
                ("5.2", "Huffman with EOS", b"", name + huffman(b"\xff\xff\xff\xff")),
                ("6.1", "index 0", b"", b"\x80"),
                ("6.3", "a table size update of more than the limit", number(4097, 5, 0x20), b""))]


BARE = "bare"  # first of the steps: the connection begins without us


def preface():
    """3.4: how a connection begins."""
    def settings_come_first(c):
        if not is_settings(c.wait("SETTINGS", lambda f: True)):
            fail(c, "SETTINGS first")
    started = PREFACE + settings()
    return [
        ("3.4", "SETTINGS come first", BARE, started, settings_come_first),
        ("3.4", "an invalid preface", BARE, b"INVALID CONNECTION PREFACE\r\n\r\n", closed),
        ("3.4", "a preface that turns invalid", BARE, PREFACE[:-1] + b"X", closed),
        ("3.4", "PING instead of SETTINGS", BARE, PREFACE + ping(), connection_error(PROTOCOL_ERROR)),
        ("3.4", "SETTINGS with ACK only", BARE, PREFACE + frame(SETTINGS, ACK), connection_error(PROTOCOL_ERROR)),
        ("3.4", "a request without SETTINGS", BARE, PREFACE + CALL.whole(), connection_error(PROTOCOL_ERROR)),
        ("3.4", "a request at once", BARE, started + CALL.whole(), well_answered),
        ("3.4", "a second preface", BARE, started + PREFACE, connection_error(FRAME_SIZE_ERROR, PROTOCOL_ERROR))]


# --- Beyond h2spec. -------------------------------------------------------------------------


def large_answer():
    """An answer of 100000 bytes and more, which no window lets through at once."""
    n = 100000
    key = b"\x0a\x05large"
    message = key + b"\x12" + bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14]) + bytes(n)
    message = b"\0" + struct.pack(">I", len(message)) + message
    pieces = [message[i:i + FRAME_MAX] for i in range(0, len(message), FRAME_MAX)]
    write = PUT.open() + b"".join(data(1, p, 0) for p in pieces) + data(1, b"")
    read = CALL.open(3) + data(3, b"\0\0\0\0\x07" + key)
    return [
        ("6.9.1", "DATA as far as both windows let it", write, end_of(1), read,
         sum_of_data(65535), window_update(3, 1 << 20), sum_of_data(65535), window_update(0, 10), sum_of_data(65545),
         window_update(0, 1 << 20), end_of(3), goes_on)]


def more_states():
    waits = NO_WINDOW + CALL.whole()  # half-closed (remote), and stays so
    return [
        ("5.1", "half-closed (remote), waiting: DATA", waits, head_came, data(1), stream_error(STREAM_CLOSED)),
        ("5.1", "half-closed (remote), waiting: HEADERS", waits, head_came, CALL.ended(), stream_error(STREAM_CLOSED)),
        ("5.1", "half-closed (remote), waiting: RST_STREAM", waits, head_came, rst_stream(1), goes_on),
        ("5.1", "closed: WINDOW_UPDATE, RST_STREAM", CALL.whole(), end_of(1), window_update(1, 1), rst_stream(1),
         goes_on),
        ("5.1", "closed by RST_STREAM: again, and WINDOW_UPDATE", CALL.open(), rst_stream(1), rst_stream(1),
         window_update(1, 1), goes_on),
        ("5.1", "closed by us: DATA, HEADERS are passed over", CALL.open(1, [("x", "a\nb")]), data(1, RANGE, 0),
         headers(1, [("x-test", "ok")], WHOLE), CALL.whole(3), answered_behind_error),
        ("5.1", "idle, even: DATA", data(2), connection_error(PROTOCOL_ERROR)),
        ("5.1", "idle: PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"),
         connection_error(PROTOCOL_ERROR)),
        ("5.1", "idle: HEADERS that are trailers", headers(1, [("x-test", "ok")], WHOLE),
         stream_error(PROTOCOL_ERROR)),
        ("5.1.1", "DATA for a stream that was passed over", CALL.whole(3), end_of(3), data(1),
         either_error(STREAM_CLOSED, PROTOCOL_ERROR)),
        ("5.1.1", "ids with gaps, and the highest", CALL.whole(7), CALL.whole(WINDOW_MAX), answered(7, WINDOW_MAX)),
        ("5.1.2", "streams that ended make room", b"".join(CALL.whole(2 * i + 1) for i in range(STREAMS_MAX)),
         lambda c: [c.wait("all answers", lambda f: ends(f.stream)(f)) for _ in range(STREAMS_MAX)],
         CALL.whole(2 * STREAMS_MAX + 1), answered(2 * STREAMS_MAX + 1)),
        ("5.4.1", "GOAWAY names the last stream", CALL.whole(5), end_of(5), ping(stream=3), last_stream(5)),
        ("6.8", "streams go on after a client's GOAWAY", CALL.open(), goaway(), data(1, RANGE), well_answered)]


def answered_behind_error(c):
    """Stream 1 had its error, and 3 is answered."""
    c.wait("RST_STREAM", lambda f: f.kind == RST_STREAM and f.stream == 1)
    c.wait("a response on stream 3", ends(3))
    c.barrier()
    unharmed(c)
    if sum(f.kind == RST_STREAM for f in c.frames) != 1:
        fail(c, "one RST_STREAM")


def more_frames():
    protocol, size = connection_error(PROTOCOL_ERROR), connection_error(FRAME_SIZE_ERROR)
    padding = frame(DATA, END_STREAM | PADDED, 1, b"\xff" + RANGE + bytes(255))
    return [
        ("4.1", "a frame with bytes one by one", *(bytes([b]) for b in CALL.whole()), well_answered),
        ("4.1", "the reserved bit of a stream's id", frame(HEADERS, WHOLE, 1 | 1 << 31, block(CALL.fields)),
         answered()),
        ("4.2", "SETTINGS larger than 2^14", frame(SETTINGS, 0, 0, b"\0\x77\0\0\0\0" * 2731), size),
        ("4.2", "an unknown frame larger than 2^14", frame(0x16, 0, 0, bytes(FRAME_MAX + 1)), size),
        ("4.2", "HEADERS too short for their priority", headers(1, bytes(4), WHOLE | PRIORITIZED), size),
        ("6.1", "DATA that is padding alone", CALL.open(), data(1, b"\x03" + bytes(3), PADDED), data(1, RANGE),
         well_answered),
        ("6.1", "DATA with the most padding", CALL.open(), padding, well_answered),
        ("6.1", "DATA with PADDED and no length of it", CALL.open(), data(1, b"", END_STREAM | PADDED),
         connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)),
        ("6.1", "DATA with as much padding as frame", CALL.open(), data(1, b"\x04test"[:4], END_STREAM | PADDED),
         protocol),
        ("6.1", "DATA without bytes ends a request", CALL.open(), data(1, RANGE, 0), data(1, b""), well_answered),
        ("6.2", "HEADERS with padding and priority",
         headers(1, b"\2" + bytes(5) + block(CALL.fields) + bytes(2), END_HEADERS | PADDED | PRIORITIZED),
         data(1, RANGE), well_answered),
        ("6.2", "HEADERS with PADDED and no length of it", headers(1, b"", WHOLE | PADDED),
         connection_error(PROTOCOL_ERROR, FRAME_SIZE_ERROR)),
        ("6.3", "PRIORITY of an open stream on itself", CALL.open(), priority(1, 1), stream_error(PROTOCOL_ERROR)),
        ("6.3", "PRIORITY of a closed stream on itself", CALL.whole(), end_of(1), priority(1, 1), priority(1, 1),
         stream_error(PROTOCOL_ERROR)),
        ("6.3", "PRIORITY of an open stream of 6 bytes", CALL.open(), frame(PRIORITY, 0, 1, bytes(6)),
         stream_error(FRAME_SIZE_ERROR)),
        ("6.4", "RST_STREAM of 5 bytes", CALL.open(), frame(RST_STREAM, 0, 1, bytes(5)), size),
        ("6.5", "SETTINGS without settings", settings(), acknowledged, goes_on),
        ("6.5", "SETTINGS with ACK that nobody awaits", frame(SETTINGS, ACK), goes_on),
        ("6.5.2", "ENABLE_PUSH of 1, and the largest values",
         settings((ENABLE_PUSH, 1), (INITIAL_WINDOW_SIZE, WINDOW_MAX), (MAX_FRAME_SIZE, 2**24 - 1),
                  (HEADER_TABLE_SIZE, 2**32 - 1), (MAX_CONCURRENT_STREAMS, 0), (MAX_HEADER_LIST_SIZE, 2**32 - 1)),
         CALL.whole(), well_answered),
        ("6.5.2", "HEADER_TABLE_SIZE of 0", settings((HEADER_TABLE_SIZE, 0)), CALL.whole(), well_answered),
        ("6.5.2", "unknown settings, and one that is wrong behind", settings((0xff, 1), (ENABLE_PUSH, 3)), protocol),
        ("6.6", "PUSH_PROMISE on stream 0", frame(PUSH_PROMISE, END_HEADERS, 0, b"\0\0\0\2"), protocol),
        ("6.7", "PING of 9 bytes", ping(bytes(9)), size),
        ("6.7", "PING with flags", ping(flags=0xfe), pong),
        ("6.8", "GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, bytes(7)), size),
        ("6.9", "WINDOW_UPDATE of 5 bytes", frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1\0"), size),
        ("6.9", "WINDOW_UPDATE with the reserved bit", NO_WINDOW, CALL.whole(), head_came,
         window_update(1, 1 | 1 << 31), bytes_of_data(1)),
        ("6.9.1", "WINDOW_UPDATE of the connection just too far", window_update(0, WINDOW_MAX - 65535 + 1),
         connection_error(FLOW_CONTROL_ERROR)),
        ("6.9.1", "WINDOW_UPDATE of the connection to 2^31-1", window_update(0, WINDOW_MAX - 65535), CALL.whole(),
         well_answered),
        ("6.9.1", "WINDOW_UPDATE of a stream just too far", CALL.open(), window_update(1, WINDOW_MAX - 65535 + 1),
         stream_error(FLOW_CONTROL_ERROR)),
        ("6.9.2", "INITIAL_WINDOW_SIZE lifts a window too far", CALL.open(), window_update(1, 1),
         settings((INITIAL_WINDOW_SIZE, WINDOW_MAX)), connection_error(FLOW_CONTROL_ERROR)),
        ("6.9.2", "INITIAL_WINDOW_SIZE is not the connection's", window_update(0, WINDOW_MAX - 65535),
         settings((INITIAL_WINDOW_SIZE, WINDOW_MAX)), CALL.whole(), well_answered),
        ("6.10", "CONTINUATION without bytes", CALL.open(flags=0), continuation(1, [], 0), continuation(1, []),
         data(1, RANGE), well_answered),
        ("6.10", "CONTINUATION of another stream", CALL.open(flags=0), continuation(3, []), protocol),
        ("6.10", "WINDOW_UPDATE, PING inside a header block", CALL.open(flags=0), window_update(0, 1), protocol),
        ("6.10", "a block of CONTINUATION, cut within a field", frame(HEADERS, 0, 1, block(CALL.fields)[:5]),
         frame(CONTINUATION, END_HEADERS, 1, block(CALL.fields)[5:]), data(1, RANGE), well_answered)]


def more_messages():
    """What makes a request malformed (8.1.1): each with END_STREAM."""
    rows = [("8.2.1", f"the name {name!r}", CALL.fields + [(name, "ok")])
            for name in ("", "x test", "x:test", "x\0", "x\r", "x\n", "x\t", "x\x7f", "x\x80", "\xe9", "xX", " x")]
    rows += [("8.2.1", f"the value {value!r}", CALL.fields + [("x-test", value)])
             for value in ("a\0b", "a\rb", "a\nb", "\n", " a", "a ", "\ta", "a\t")]
    rows += [("8.2.2", f"{name}: {value}", CALL.without("te") + [(name, value)])
             for name, value in (("connection", "close"), ("keep-alive", "1"), ("proxy-connection", "close"),
                                 ("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("te", "gzip"), ("te", ""))]
    rows += [("8.3.1", f"an empty {name}", CALL.with_value(name, "")) for name in (":method", ":scheme")]
    rows += [("8.3.1", f"two {name}", [f for f in CALL.fields if f[0] == name] + CALL.fields)
             for name in (":scheme", ":path", ":authority")]
    rows += [("8.3", f"{name} behind a regular field",
              CALL.without(name) + [f for f in CALL.fields if f[0] == name])
             for name in (":method", ":scheme", ":path", ":authority")]
    rows += [
        ("8.3", "no pseudo fields", [("x-test", "ok")]),
        ("8.3", "no fields", []),
        ("8.3", "a pseudo field in upper case", CALL.without(":path") + [(":Path", "/")]),
        ("8.3", "the name \":\"", [(":", "x")] + CALL.fields),
        ("8.3.1", "a line break in :path", CALL.with_value(":path", "/\r\nx: y")),
        ("8.3.1", "a blank in :method", CALL.with_value(":method", "GET /")),
        ("8.4", ":protocol, of RFC 8441, unasked", [(":protocol", "websocket")] + CALL.fields),
        ("8.5", "CONNECT with :scheme and :path", CALL.with_value(":method", "CONNECT")),
        ("8.5", "CONNECT without :authority", [(":method", "CONNECT")])]
    rows += [("8.1.1", f"content-length of {value!r}", CALL.fields + [("content-length", value)])
             for value in ("1", "-1", "+0", "x", "", "0x0", "0 0", "99999999999999999999")]
    rows += [("8.1.1", "two that differ of content-length",
              CALL.fields + [("content-length", "0"), ("content-length", "1")])]
    return [(section, what, headers(1, fields, WHOLE), stream_error(PROTOCOL_ERROR)) for section, what, fields in rows]


def more_bodies():
    malformed, n = stream_error(PROTOCOL_ERROR), str(len(RANGE))

    def trailers(*fields, flags=WHOLE, body=RANGE[:3]):
        return CALL.open() + data(1, body, 0) + headers(1, fields, flags)

    def of_length(length):
        return CALL.open(1, [("content-length", length)])
    return [
        ("8.1", "a stream of messages that ends with its head", KEEP_ALIVE.ended(), answered()),
        ("8.1", "trailers that are empty", trailers(body=RANGE), well_answered),
        ("8.1", "trailers with a name in upper case", trailers(("X", "1")), malformed),
        ("8.1", "trailers with a field of the connection", trailers(("connection", "close")), malformed),
        ("8.1", "trailers with a line break", trailers(("x", "a\nb")), malformed),
        ("8.1", "trailers with :status", trailers((":status", "200")), malformed),
        ("8.1", "trailers without END_STREAM", trailers(("x", "1"), flags=END_HEADERS), malformed),
        ("8.1", "trailers in a CONTINUATION", CALL.open(), data(1, RANGE, 0), headers(1, [], END_STREAM),
         continuation(1, [("x", "1")]), well_answered),
        ("8.1", "DATA behind trailers", NO_WINDOW, trailers(("x", "1"), body=RANGE), head_came, data(1),
         stream_error(STREAM_CLOSED)),
        ("8.1.1", "content-length that is right", of_length(n), data(1, RANGE[:3], 0), data(1, RANGE[3:]),
         well_answered),
        ("8.1.1", "content-length that is right, twice the same", CALL.open(1, [("content-length", n)] * 2),
         data(1, RANGE), well_answered),
        ("8.1.1", "content-length does not count padding", of_length(n),
         data(1, b"\x05" + RANGE + bytes(5), END_STREAM | PADDED), well_answered),
        ("8.1.1", "less than content-length", of_length("9"), data(1, RANGE), malformed),
        ("8.1.1", "less than content-length, then trailers", of_length("9"), data(1, RANGE[:3], 0),
         headers(1, [("x", "1")], WHOLE), malformed),
        ("8.1.1", "more than content-length, at once", of_length("7"), data(1, RANGE, 0), malformed),
        ("8.2.2", "te: trailers, in any case", headers(1, CALL.without("te") + [("te", "Trailers")]), data(1, RANGE),
         well_answered),
        ("8.2.3", "cookies in several fields", CALL.whole(1, [("cookie", "a=b"), ("cookie", "c=d")]), well_answered),
        ("8.2.1", "values with 8-bit characters and tabs inside", CALL.whole(1, [("x", "\xe9\t\xff"), ("y", "")]),
         well_answered),
        ("8.3.1", "no :authority", headers(1, CALL.without(":authority")), data(1, RANGE), well_answered),
        ("8.3.1", "pseudo fields in another order", headers(1, CALL.fields[3::-1] + CALL.fields[4:]), data(1, RANGE),
         well_answered),
        ("8.5", "CONNECT", headers(1, [(":method", "CONNECT"), (":authority", "x:1")], WHOLE), answered())]


def more_hpack():
    undecodable = connection_error(COMPRESSION_ERROR)
    head, indexed = block(CALL.fields), b"\x40" + text("x-test") + text("ok")
    wrong = [
        ("4.2", "an update behind a field", head[:9] + b"\x20" + head[9:]),
        ("4.2", "an update that exceeds the limit behind one that does not", b"\x20" + number(1 << 20, 5, 0x20) + head),
        ("5.1", "an integer that never ends", b"\xff" + b"\xff" * 20 + head),
        ("5.1", "an index of 2^32 and more", head + number((1 << 32) + 15, 7, 0x80)),
        ("5.1", "a length of 2^32 and more", head + b"\0\x01a" + number((1 << 32) + 2) + b"ok"),
        ("5.1", "an index of 2^64 and more", head + number((1 << 64) + 15, 7, 0x80)),
        ("5.1", "an integer that is cut off", head + b"\xff\x80"),
        ("5.1", "a length of 2^31", head + b"\0" + number(1 << 31)),
        ("5.2", "a name longer than the block", head + b"\0\x05abc"),
        ("5.2", "a value longer than the block", head + b"\0\x01a\x05abc"),
        ("5.2", "a name without a value", head + b"\0\x01a"),
        ("5.2", "Huffman in a name, with EOS", head + b"\0" + huffman(b"\xff\xff\xff\xff") + text("ok")),
        ("5.2", "Huffman that is padding alone", head + b"\0\x01a" + huffman(b"\xff")),
        ("5.2", "Huffman that ends within a code", head + b"\0\x01a" + huffman(b"\xfe")),
        ("6.1", "index 62 of an empty table", head + b"\xbe"),
        ("6.2.1", "a name of index 62 of an empty table", head + b"\x7e" + text("ok"))]
    rows = [("hpack " + section, what, headers(1, raw, WHOLE), undecodable) for section, what, raw in wrong]
    return rows + [
        ("hpack 2.3.3", "an entry of the table, in the next block", headers(1, head + indexed, WHOLE),
         headers(3, head + b"\xbe", WHOLE), answered(1, 3)),
        ("hpack 2.3.3", "an entry by a request that is malformed",
         headers(1, head + indexed + block([("X", "")]), WHOLE), headers(3, head + b"\xbe", WHOLE),
         answered_behind_error),
        ("hpack 2.3.3", "an entry by trailers that are passed over", CALL.open(), rst_stream(1),
         headers(1, indexed, WHOLE), headers(3, head + b"\xbe", WHOLE), lambda c: c.wait("a response", ends(3))),
        ("hpack 4.2", "a lower HEADER_TABLE_SIZE makes our next block begin with an update",
         settings((HEADER_TABLE_SIZE, 0)), acknowledged, CALL.whole(), block_begins_with(b"\x20")),
        ("hpack 4.2", "an update to 0 empties the table", headers(1, head + indexed, WHOLE), end_of(1),
         headers(3, b"\x20\x3f\xe1\x1f" + head + b"\xbe", WHOLE), undecodable),
        ("hpack 4.4", "an entry larger than the table empties it", headers(1, head + indexed, WHOLE), end_of(1),
         headers(3, head + b"\x40" + text("x") + text("y" * 5000) + b"\xbe", WHOLE), undecodable),
        ("hpack 4.1", "entries give way to new ones", headers(1, head + indexed, WHOLE), end_of(1),
         headers(3, head + (b"\x40" + text("x") + text("y" * 2000)) * 2 + b"\xc0", WHOLE), undecodable),
        ("hpack 6.3", "updates up to the limit", headers(1, b"\x20" + number(4096, 5, 0x20) + head, WHOLE), answered()),
        ("hpack 5.1", "the largest prefix and zeros behind", headers(1, head + b"\0\x7f\0" + b"a" * 127 + b"\0", WHOLE),
         answered())]


def abuse():
    """10.5: what costs us more than the peer ends the connection."""
    calm, n = connection_error(ENHANCE_YOUR_CALM), 4000
    resets = b"".join(CALL.open(2 * i + 1) + rst_stream(2 * i + 1) for i in range(n))
    malformed = b"".join(CALL.ended(2 * i + 1, [("X", "")]) for i in range(n))
    long_head = CALL.open(flags=END_STREAM) + continuation(1, DUMMY * 4, 0) * 4
    return [
        ("10.5", "a flood of SETTINGS", settings() * n, calm),
        ("10.5", "a flood of SETTINGS with ACK", frame(SETTINGS, ACK) * n, calm),
        ("10.5", "a flood of PING", ping() * n, calm),
        ("10.5", "a flood of PRIORITY", priority(1) * n, calm),
        ("10.5", "a flood of WINDOW_UPDATE", window_update(0, 1) * n, calm),
        ("10.5", "a flood of DATA without bytes", CALL.open(), data(1, b"", 0) * n, calm),
        ("10.5", "a flood of unknown frames", UNKNOWN * n, calm),
        ("10.5", "a flood of GOAWAY", goaway() * n, calm),
        ("10.5", "a flood of RST_STREAM", resets, calm),
        ("10.5", "a flood of malformed requests", malformed, calm),
        ("10.5", "a flood of CONTINUATION", CALL.open(flags=0), continuation(1, [], 0) * n, calm),
        ("10.5.1", "a list that is too long", long_head, continuation(1, DUMMY), either_error(ENHANCE_YOUR_CALM)),
        ("10.5.1", "a block that is too long", long_head, continuation(1, DUMMY * 4), calm)]


# --- All of them. -----------------------------------------------------------------------------


def named(kind, rows):
    return [(f"{section}, {kind}", *row) for section, *row in rows]


def all_cases():
    cases = preface() + h2spec_accepted() + h2spec_conn()
    for q, get in ((PLAIN, GET), (CALL, CALL)):
        for table in (h2spec_generic, h2spec_states, h2spec_frames, h2spec_messages):
            cases += named(q.name, table(q, get))
        cases += named(q.name, h2spec_hpack_accepted(get) + h2spec_hpack(get))
    for table in (more_states, more_frames, more_messages, more_bodies, more_hpack, large_answer, abuse):
        cases += table()
    return cases


def run(door, steps):
    """What is wrong, or None."""
    bare = steps[0] == BARE
    try:
        with contextlib.closing(Connection(door, not bare)) as connection:
            for step in steps[bare:]:
                if isinstance(step, bytes):
                    connection.send(step)
                else:
                    step(connection)
    except (Closed, AssertionError, OSError) as e:
        return e
    return None


def trusting(certificate):
    context = ssl.create_default_context(cafile=certificate + ".pem")
    context.set_alpn_protocols(["h2"])
    return context


@contextlib.contextmanager
def server():
    """The doors of one of ours, plain and by TLS: a port, and None or a context. It is stopped in any case."""
    plain, secure, peer = free_ports(3)
    clients, peer = f"http://127.0.0.1:{plain},https://127.0.0.1:{secure}", f"http://127.0.0.1:{peer}"
    with tempfile.TemporaryDirectory(prefix="etcd-test.") as folder, \
            open(os.path.join(folder, "log"), "w+", encoding="utf-8") as log:
        certificate = make_certificate(folder)
        process = subprocess.Popen(
            [OURS, "--name", "m", "--data-dir", os.path.join(folder, "data"), "--listen-client-urls", clients,
             "--advertise-client-urls", clients, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", f"m={peer}", f"--max-concurrent-streams={STREAMS_MAX}",
             "--cert-file", certificate + ".pem", "--key-file", certificate + ".key"], stdout=log, stderr=log)
        try:
            doors = ((plain, None), (secure, trusting(certificate)))
            wait_ready(doors[0], process, log)
            yield doors
            if process.poll() is not None:
                log.seek(0)
                raise SystemExit(f"the server ended: {log.read()}")
        finally:
            process.terminate()
            try:
                process.wait(READY_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_ready(door, process, log):
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        if not run(door, (CALL.whole(), well_answered)):
            return
        time.sleep(0.05)
    log.seek(0)
    raise SystemExit(f"the server did not get ready: {log.read()}")


def main(words):
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda *_: sys.exit(1))  # so that the server is stopped
    passed = failed = 0
    with server() as doors:
        for (section, what, *steps), door in itertools.product(all_cases(), doors):
            name = f"{section}{', TLS' * bool(door[1])}: {what}"
            if not all(word in name for word in words):
                continue
            wrong = run(door, steps)
            passed, failed = passed + (not wrong), failed + bool(wrong)
            if wrong:
                print(f"FAIL: {name}: {wrong}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
