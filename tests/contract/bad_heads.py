"""Requests that no client should send, as bytes: broken heads, broken framing, and what is no HTTP at all.

Owns the table. May not live here: where they are sent and what must come back (`test_bad_input`).
"""

from __future__ import annotations

BODY = b'{"model":"m"}'
CHUNKED = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"
#: What a reader that takes another end of the message would see as a second request.
SMUGGLED = b"POST /sleep HTTP/1.1\r\nHost: house\r\nContent-Length: 0\r\n\r\n"
TE = b"Transfer-Encoding: chunked"
CL = b"Content-Length: 13"


def _post(*lines: bytes, body: bytes = BODY, version: bytes = b"1.1") -> bytes:
    return b"POST PATH HTTP/%b\r\nHost: house\r\n%b\r\n%b" % (version, b"".join(line + b"\r\n" for line in lines), body)


def _get(target: bytes = b"PATH", version: bytes = b"HTTP/1.1", head: bytes = b"Host: house\r\n") -> bytes:
    return b"GET %b %b\r\n%b\r\n" % (target, version, head)


#: Two readers could see the end of the message in different places: the classics of request smuggling.
TWO_LENGTHS = {
    "length, then chunked": _post(CL, TE, body=CHUNKED + SMUGGLED),
    "chunked, then length": _post(TE, b"Content-Length: 4", body=CHUNKED + SMUGGLED),
    "two lengths that differ": _post(b"Content-Length: 0", CL, body=SMUGGLED),
    "length and identity": _post(b"Transfer-Encoding: identity", CL),
    "gzip, chunked": _post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED + SMUGGLED),
    "gzip": _post(b"Transfer-Encoding: gzip", body=CHUNKED + SMUGGLED),
    "chunked twice": _post(b"Transfer-Encoding: chunked, chunked", body=CHUNKED + SMUGGLED),
    "chunked and identity, two lines": _post(TE, b"Transfer-Encoding: identity", body=CHUNKED + SMUGGLED),
    "xchunked": _post(b"Transfer-Encoding: xchunked", body=CHUNKED + SMUGGLED),
    "chunked behind a vertical tab": _post(b"Transfer-Encoding: \x0bchunked", body=CHUNKED + SMUGGLED),
    "chunked behind a blank name": _post(b"Transfer-Encoding : chunked", body=CHUNKED + SMUGGLED),
    "chunked in HTTP/1.0": _post(TE, body=CHUNKED + SMUGGLED, version=b"1.0"),
}
BAD_LENGTHS = {
    "length negative": _post(b"Content-Length: -1"),
    "length with a plus": _post(b"Content-Length: +13"),
    "length in hexadecimal": _post(b"Content-Length: 0xd"),
    "length in words": _post(b"Content-Length: many"),
    "length empty": _post(b"Content-Length: "),
    "length with a blank inside": _post(b"Content-Length: 1 3"),
    "length beyond 64 bits": _post(b"Content-Length: 99999999999999999999999999"),
    "length behind a blank name": _post(b"Content-Length : 13"),
    "chunk size in words": _post(TE, body=b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size negative": _post(TE, body=b"-d\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size with 0x": _post(TE, body=b"0xd\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": _post(TE, body=b"fffffffffffffffffffffff\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk size empty": _post(TE, body=b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk longer than its size": _post(TE, body=b"2\r\n" + BODY + b"\r\n0\r\n\r\n"),
}
BAD_HEADERS = {
    "folded": _post(b"X-A: one", b" two", CL),
    "folded framing": _post(b"Transfer-Encoding:", b" chunked", body=CHUNKED),
    "NUL in a value": _post(b"X-A: a\0b", CL),
    "NUL in a name": _post(b"X\0A: b", CL),
    "control character in a value": _post(b"X-A: a\x01b", CL),
    "bare CR in a value": _post(b"X-A: a\rb", CL),
    "bare LF between headers": _post(b"X-A: a\nX-B: b", CL),
    "bare LF everywhere": _post(CL).replace(b"\r\n", b"\n"),
    "no colon": _post(b"X-A", CL),
    "no name": _post(b": a", CL),
    "blank in a name": _post(b"X A: b", CL),
    "blank behind a name": _post(b"X-A : b", CL),
    "blank before the first name": b"POST PATH HTTP/1.1\r\n X-A: b\r\nHost: house\r\n" + CL + b"\r\n\r\n" + BODY,
    "name that is not ASCII": _post(b"X-\xc3\xa4: b", CL),
    "no Host": _get(head=b""),
    "two Hosts": _get(head=b"Host: a\r\nHost: b\r\n"),
    "the same Host twice": _get(head=b"Host: a\r\nHost: a\r\n"),
    "a list of Hosts": _get(head=b"Host: a, b\r\n"),
    "Host with a path": _get(head=b"Host: a/b\r\n"),
    "Host with a user": _get(head=b"Host: u@a\r\n"),
    "one huge header": _get(head=b"Host: house\r\nX-A: " + b"a" * 70_000 + b"\r\n"),
    "many headers": _get(head=b"Host: house\r\n" + b"X-A: aaaa\r\n" * 20_000),
    "a head that never ends": b"GET PATH HTTP/1.1\r\nHost: house\r\nX-A: " + b"a" * 200_000,
}
BAD_LINES = {
    "huge target": _get(b"/" + b"a" * 70_000),
    "NUL in the target": _get(b"/a\0b"),
    "blank in the target": _get(b"/a b"),
    "target that is not ASCII": _get(b"/\xc3\xa4"),
    "target without a slash": _get(b"v1/models"),
    "authority form": b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n",
    "authority form with GET": _get(b"evil:443"),
    "absolute form of another scheme": _get(b"ftp://evil/x"),
    "absolute form of a denied path": _get(b"http://evil/sleep"),
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: house\r\n\r\n",
    "TRACE": b"TRACE /nowhere HTTP/1.1\r\nHost: house\r\n\r\n",
    "no version": b"GET PATH\r\n\r\n",
    "HTTP/0.9": _get(version=b"HTTP/0.9"),
    "HTTP/1.2": _get(version=b"HTTP/1.2"),
    "HTTP/2.0": _get(version=b"HTTP/2.0"),
    "HTTP/3.7": _get(version=b"HTTP/3.7"),
    "another protocol's name": _get(version=b"HTTX/1.1"),
    "method in small letters": b"get PATH HTTP/1.1\r\nHost: house\r\n\r\n",
    "method nobody knows": b"FROB PATH HTTP/1.1\r\nHost: house\r\n\r\n",
    "blank before the method": b" GET PATH HTTP/1.1\r\nHost: house\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "TLS hello": bytes.fromhex("16030102000100 01fc0303") + b"\x55" * 60 + b"\r\n\r\n",
    "noise": b"\xff\xfe\0\1\2\3\r\n\r\n",
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}

HEADS = {**TWO_LENGTHS, **BAD_LENGTHS, **BAD_HEADERS, **BAD_LINES}


def head(name: str, path: str) -> bytes:
    """The bytes of one of them, for a port whose usual path is `path`."""
    return HEADS[name].replace(b"PATH", path.encode(), 1)
