"""What the fuzzer starts from: requests as clients send them and answers as engines give them, and words that hurt.

Owns these tables. May not live here: what is done to them (`mutate`). In the texts TAG stands for the number of the
case, by which an engine knows what to answer; it is as long as the number that takes its place.
"""

from __future__ import annotations

import gzip
from typing import Final

TAG: Final = b"@CASE-@@"
DIGITS: Final = len(TAG)

_CHAT = b'{"model":"m","messages":[{"role":"user","content":"@CASE-@@ say something"}],"max_tokens":5}'
_STREAM = b'{"model":"m","messages":[{"role":"user","content":"@CASE-@@"}],"stream":true,"stream_options":null}'
_TEXT = '{"model":"m","prompt":"@CASE-@@ \\u00e9 \\" \\ud83d\\ude00 häuser","stream":false,"user":"u"}'.encode()
_LONG = b'{"messages":[{"role":"user","content":"' + b'words \\n and \\"more\\" ' * 3000 + b'"}],"model":"m"}'
_DEEP = b'{"a":' + b"[" * 200 + b"]" * 200 + b',"model":"m"}'
_FORM = (
    b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"RIFF\0\1\2\xff\r\n--XX--\r\n"
)


def chunked(body: bytes, *sizes: int, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """`body` in chunks of these sizes, and one of the rest."""
    pieces = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    text = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in (*pieces, body) if piece)
    return text + b"0\r\n" + trailer + b"\r\n"


def frame(text: bytes, opcode: int = 1) -> bytes:
    """A masked WebSocket frame of less than 126 bytes."""
    mask = b"\1\2\3\4"
    return bytes((0x80 | opcode, 0x80 | len(text))) + mask + bytes(c ^ mask[n % 4] for n, c in enumerate(text))


# -- requests ----------------------------------------------------------------------------------------------------------


def _head(line: bytes, *fields: bytes) -> bytes:
    lines = (b"Host: house", b"X-Fuzz: " + TAG, *fields)
    return line + b" HTTP/1.1\r\n" + b"".join(one + b"\r\n" for one in lines) + b"\r\n"


def _post(path: bytes, body: bytes, *fields: bytes, kind: bytes = b"application/json") -> bytes:
    return _head(b"POST " + path, b"Content-Type: " + kind, *fields, b"Content-Length: %d" % len(body)) + body


_UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
_UPDATE = frame(b'{"type":"session.update","session":{"model":"m"}}')
_IN_CHUNKS = (b"Content-Type: application/json", b"Transfer-Encoding: chunked")
CHAT: Final = _post(b"/v1/chat/completions", _CHAT)
LIVEZ: Final = _head(b"GET /livez")

#: By name. The first ones are whole and right, and what is expected of their answers is known.
REQUESTS: Final[dict[str, bytes]] = {
    "chat": CHAT,
    "stream": _post(b"/v1/chat/completions", _STREAM),
    "completion": _post(b"/v1/completions", _TEXT),
    "embedding": _post(b"/v1/embeddings", b'{"input":["@CASE-@@"],"model":"m"}', b"x-request-id: mine-1"),
    "response": _post(b"/v1/responses", b'{"input":"@CASE-@@","model":"m","previous_response_id":"resp_1"}'),
    "message": _post(b"/v1/messages", _CHAT, b"anthropic-version: 2023-06-01", b"X-Forwarded-For: 10.0.0.1, 10.0.0.2"),
    "rerank": _post(b"/v2/rerank", b'{"model":"m","query":"@CASE-@@","documents":[]}'),
    "tokens": _post(b"/v1/completions", b'{"prompt":[1,2,3,-4,5e3],"model":"m"}'),
    "long": _post(b"/v1/chat/completions", _LONG),
    "deep": _post(b"/v1/chat/completions", _DEEP),
    "alias": _post(b"/v1/chat/completions", _CHAT.replace(b'"m"', b'"alias"')),
    "no model": _post(b"/v1/chat/completions", b'{"messages":[]}'),
    "another model": _post(b"/v1/chat/completions", b'{"model":"nobody/has-it","messages":[]}'),
    "cached": _post(b"/v1/chat/completions", b'{"model":"m","prompt_cache_key":"k","messages":[]}'),
    "form": _post(b"/v1/audio/transcriptions", _FORM, kind=b"multipart/form-data; boundary=XX"),
    "chunks": _head(b"POST /v1/chat/completions", *_IN_CHUNKS) + chunked(_CHAT, 1, 20),
    "odd chunks": _head(b"POST /v1/chat/completions", *_IN_CHUNKS)
    + chunked(_CHAT, 30, extension=b';a="b"', trailer=b"X-Late: yes\r\nHost: evil\r\n"),
    "expect": _post(b"/v1/chat/completions", _CHAT, b"Expect: 100-continue"),
    "encoded": _post(b"/v1/chat/completions", gzip.compress(_CHAT, mtime=0), b"Content-Encoding: gzip"),
    "h2c": _post(
        b"/v1/chat/completions", _CHAT, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAM"
    ),
    "close": _post(b"/v1/chat/completions", _CHAT, b"Connection: close"),
    "named hop": _post(
        b"/v1/chat/completions", _CHAT, b"Connection: keep-alive, X-Secret", b"X-Secret: 1", b"TE: gzip"
    ),
    "old": _head(b"GET /v1/models").replace(b"1.1", b"1.0", 1),
    "old, kept": _post(b"/v1/chat/completions", _CHAT, b"Connection: keep-alive").replace(b"P/1.1", b"P/1.0", 1),
    "models": _head(b"GET /v1/models"),
    "a model": _head(b"GET /v1/models/org%2Fm"),
    "services": _head(b"GET /services"),
    "stats": _head(b"GET /stats?x=%20"),
    "live": LIVEZ,
    "ready": _head(b"HEAD /readyz"),
    "head": _head(b"HEAD /v1/chat/completions"),
    "options": _head(b"OPTIONS /v1/chat/completions", b"Origin: http://x"),
    "remembered": _head(b"GET /v1/responses/resp_1?include=a"),
    "cancel": _post(b"/v1/responses/resp_1/cancel", b""),
    "props": _head(b"GET /props?model=m&x=%C3%A9"),
    "delete": _head(b"DELETE /v1/files/file-1"),
    "other": _post(b"/anything/at/all;x=1?y=%zz", b"not json \xff\0", kind=b"text/plain"),
    "absolute": _head(b"GET http://house/v1/models"),
    "admin": _post(b"/sleep?level=1", b""),
    "trace": _head(b"TRACE /"),
    "connect": _head(b"CONNECT house:443"),
    "two": CHAT + _post(b"/v1/completions", _TEXT),
    "five": CHAT + LIVEZ + _post(b"/v1/chat/completions", _STREAM) + _head(b"GET /health") + CHAT,
    "many": LIVEZ * 120,
    "socket": _head(b"GET /v1/realtime?model=m", *_UPGRADE) + frame(b'{"type":"ping"}'),
    "socket, later": _head(b"GET /v1/realtime", *_UPGRADE) + _UPDATE + frame(b"more"),
    "socket, binary": _head(b"GET /v1/realtime", *_UPGRADE) + frame(b"\0\1", 2) + frame(b"", 9) + _UPDATE,
}

# -- answers -----------------------------------------------------------------------------------------------------------

_JSON = b'{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"content":"hi"}}]}'


def _event(choice: bytes) -> bytes:
    return b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[%b]}\n\n' % choice


_EVENTS = (
    _event(b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}'),
    *(_event(b'{"index":0,"delta":{"content":"word %d "},"finish_reason":null}' % n) for n in range(4)),
    _event(b'{"index":0,"delta":{},"finish_reason":"stop"}'),
    b"data: [DONE]\n\n",
)
_SSE = b"Content-Type: text/event-stream; charset=utf-8"
_NAMED = b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'


def _answer(status: bytes, body: bytes, *fields: bytes, kind: bytes = b"Content-Type: application/json") -> bytes:
    lines = (kind, *fields, b"Content-Length: %d" % len(body))
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(one + b"\r\n" for one in lines) + b"\r\n" + body


def _open(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """An answer with no length."""
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(one + b"\r\n" for one in fields) + b"\r\n" + body


_TE = b"Transfer-Encoding: chunked"
_CHUNKED_EVENTS = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in _EVENTS) + b"0\r\n\r\n"
ANSWERS: Final[dict[str, bytes]] = {
    "json": _answer(b"200 OK", _JSON, b"Server: uvicorn", b"Date: Mon, 01 Jan 2024 00:00:00 GMT"),
    "json, small letters": _answer(b"200 OK", _JSON).replace(b"Content-L", b"content-l"),
    "json in chunks": _open(chunked(_JSON, 10, 10), b"Content-Type: application/json", _TE),
    "json until close": _open(_JSON, b"Content-Type: application/json", b"Connection: close"),
    "stream": _open(_CHUNKED_EVENTS, _SSE, _TE, b"Cache-Control: no-cache"),
    "stream until close": _open(b"".join(_EVENTS), _SSE),
    "stream with a length": _answer(b"200 OK", b"".join(_EVENTS), kind=_SSE),
    "stream in odd chunks": _open(
        chunked(b"".join(_EVENTS), 7, 200, 1, extension=b";x=y", trailer=b"X-Late: 1\r\n"),
        _SSE,
        _TE,
        b"Trailer: X-Late",
    ),
    "response stream": _open(chunked(_NAMED + b"event: response.completed\ndata: {}\n\n", len(_NAMED)), _SSE, _TE),
    "response": _answer(b"200 OK", b'{"id":"resp_1","object":"response","status":"completed"}'),
    "continue first": b"HTTP/1.1 100 Continue\r\n\r\n" + _answer(b"200 OK", _JSON),
    "hints first": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + _answer(b"200 OK", _JSON),
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "nothing new": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 10\r\n\r\n',
    "empty": _answer(b"200 OK", b""),
    "switch": _open(b"\x81\x02hi", b"Connection: Upgrade", b"Upgrade: websocket", status=b"101 Switching Protocols"),
    "bad request": _answer(b"400 Bad Request", b'{"object":"error","message":"no","code":40001}'),
    "unauthorized": _answer(b"401 Unauthorized", b'{"error":"Unauthorized"}', b"WWW-Authenticate: Bearer"),
    "not found": _answer(b"404 Not Found", b'{"error":{"message":"no","type":"NotFoundError","code":404}}'),
    "busy": _answer(b"429 Too Many Requests", b'{"error":{"message":"wait"}}', b"Retry-After: 0"),
    "broken": _answer(b"500 Internal Server Error", b"<html>sorry</html>", kind=b"Content-Type: text/html"),
    "loading": _answer(b"503 Service Unavailable", b'{"error":{"message":"Loading model","code":503}}'),
    "error in chunks": _open(chunked(b'{"error":"late"}', 4), _TE, status=b"500 Internal Server Error"),
    "error until close": _open(b"out of memory", b"Content-Type: text/plain", status=b"502 Bad Gateway"),
    "zipped": _answer(b"200 OK", gzip.compress(_JSON, mtime=0), b"Content-Encoding: gzip", b"Vary: Accept-Encoding"),
    "hops": _answer(b"200 OK", _JSON, b"Keep-Alive: timeout=5", b"Connection: keep-alive, X-Gone", b"X-Gone: 1"),
    "spoofed": _answer(b"200 OK", _JSON, b"x-request-id: evil", b"X-Enginehouse-Service: evil", b"Set-Cookie: a"),
    "llama.cpp": _answer(b"200 OK", _JSON, b"Server: llama.cpp", b"Keep-Alive: timeout=5, max=100"),
    "old": _answer(b"200 OK", _JSON).replace(b"P/1.1", b"P/1.0"),
    "large": _answer(b"200 OK", b"x" * 300_000, kind=b"Content-Type: application/octet-stream"),
    "large in chunks": _open(chunked(b"y" * 200_000, 1, 65536, 4000), _TE),
    "twice": _answer(b"200 OK", _JSON) * 2,
    "other bytes": _answer(b"200 OK", _JSON, b"X-Name: h\xe4user"),
}

_LINES = """
Content-Length: 0|Content-Length: 5|content-length:4|Content-Length: 99999999999|Content-Length: +1
Transfer-Encoding: chunked|Transfer-Encoding: gzip, chunked|Transfer-Encoding: identity|TE: trailers
Connection: close|Connection: keep-alive|Connection: content-length|Connection: host|Connection: Upgrade
Upgrade: websocket|Upgrade: h2c|Expect: 100-continue|Host: other|X-Request-Id: a b|Content-Encoding: gzip
X-Forwarded-For: 1.2.3.4, ::1|Authorization: Bearer x|HTTP/1.1 200 OK|HTTP/1.1 101 Switching Protocols
Content-Type: text/event-stream|Content-Type: multipart/form-data|Retry-After: 0|Server: llama.cpp
"""
_PIECES = """
0|-1|+1|0x10|00|1e9|18446744073709551616|9223372036854775807|ffffffffffffffff|HTTP/1.0|HTTP/1.1|HTTP/2.0
HEAD |GET |POST |CONNECT | 999 |/..;/|%2e%2e/|//|?model=m&model=n|_|:|;|,|"|{}|--XX--|boundary=|data: {
"finish_reason":"stop"|"id":"resp_2"|"model":"n",|"model":null,|"model":{},|"model":"\\ud800",|"\\u006dodel":"m",
"stream":true,|"n":2,|"logprobs":true,|"tools":[{}],|"continue_final_message":true,|"max_tokens":0,
"""
#: What the mutations put in.
WORDS: Final[tuple[bytes, ...]] = (
    *(line.encode() + b"\r\n" for row in _LINES.split("\n") for line in row.split("|") if line),
    *(piece.encode() for row in _PIECES.split("\n") for piece in row.split("|") if piece),
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b" ", b"\t", b"\\", b"\xff", b"\xc3\xa9", b"\x7f", b"\r\n 1"),
    *(b"0\r\n\r\n", b"1\r\na\r\n", b"0\r\nX: y\r\n\r\n", b"5;a=b\r\nhello\r\n", b"--XX\r\n", b"[" * 2000),
    *(b"data: [DONE]\n\n", b"event: error\n", b"\n\n", b": ping\n\n", b"\x88\x80\0\0\0\0", b"\xfe\xff\xff"),
    *(b"POST /sleep HTTP/1.1\r\nHost: house\r\nContent-Length: 0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n\r\n"),
)
