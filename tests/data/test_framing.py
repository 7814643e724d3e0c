"""Answers reach the client whole, however they are framed on either side."""

from __future__ import annotations

import asyncio
import gzip

from tests.data.rig import Call, Engine, post, rig

SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def plain(call: Call) -> None:
    await call.answer(b'{"from":"%b"}' % call.engine.name.encode())


async def test_a_length_delimited_answer_keeps_its_content_length() -> None:
    async with rig(Engine("a", plain)) as house:
        answer = await house.ask(post())
        assert answer.status == 200
        assert answer.body == b'{"from":"a"}'
        assert answer.header("content-length") == "12"
        assert answer.header("transfer-encoding") is None


async def test_the_body_reaches_the_engine_byte_for_byte_and_headers_less_hop_by_hop_ones() -> None:
    body = b' { "model" : "m",\t"guided_json":{"a":[1.0,1e2]}, "cache_prompt":true,"x":"\\u00e9\xc3\xa9" } '
    engine = Engine("a", plain)
    extra = (
        b"X-Weird:  two  blanks \r\nConnection: keep-alive, X-Private\r\nX-Private: 1\r\n"
        b"TE: trailers\r\nKeep-Alive: 5\r\n"
    )
    async with rig(engine) as house:
        await house.ask(post(body, extra=extra))
    call = engine.calls[0]
    assert call.body == body
    assert call.header(b"x-weird") == [b"two  blanks"]
    for gone in (b"x-private", b"te", b"keep-alive", b"connection", b"transfer-encoding"):
        assert call.header(gone) == []
    assert call.header(b"content-length") == [b"%d" % len(body)]
    assert call.header(b"host") == [b"127.0.0.1:%d" % engine.port]


async def test_a_chunked_request_reaches_the_engine_with_a_length() -> None:
    engine = Engine("a", plain)
    async with rig(engine) as house:
        head = b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await house.ask(head + b'5\r\n{"mod\r\n8;x=y\r\nel":"m"}\r\n0\r\nEvil: trailer\r\n\r\n')
        assert answer.status == 200
    assert engine.calls[0].body == b'{"model":"m"}'
    assert engine.calls[0].header(b"evil") == []


async def test_non_ascii_header_values_pass_in_both_directions() -> None:
    """Defect: Non-ASCII header values are dropped."""

    async def script(call: Call) -> None:
        await call.answer(extra=b"x-name: Zo\xeb\r\n")

    engine = Engine("a", script)
    async with rig(engine) as house:
        answer = await house.ask(post(extra=b"X-User: J\xc3\xbcrgen\r\n"))
        assert answer.header("x-name") == "Zoë"
    assert engine.calls[0].header(b"x-user") == ["Jürgen".encode()]


async def test_a_stream_is_relayed_as_it_arrives_with_its_headers() -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.send(SSE.replace(b"\r\n\r\n", b"\r\nx-engine: yes\r\n\r\n") + b'f\r\ndata: {"n":1}\n\n\r\n')
        await go.wait()
        await call.send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        await client.send(post())
        head = await client.read_head()
        assert b"x-engine: yes" in head
        assert b"transfer-encoding: chunked" in head
        assert await client.reader.readuntil(b"\n\n\r\n") == b'f\r\ndata: {"n":1}\n\n\r\n'
        go.set()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


async def test_an_answer_that_ends_with_its_connection_becomes_chunked() -> None:
    """Trap: httptools has no end-of-file: a response without length ends when the connection does."""

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nabc")
        await call.send(b"def")
        call.close()

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post())
        assert answer.body == b"abcdef"
        assert answer.header("transfer-encoding") == "chunked"


async def test_an_http_1_0_client_gets_a_chunked_answer_until_the_connection_closes() -> None:
    async def script(call: Call) -> None:
        await call.send(SSE + b"3\r\nabc\r\n0\r\n\r\n")

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post().replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert answer.body == b"abc"
        assert answer.header("transfer-encoding") is None
        assert answer.header("connection") == "close"


async def test_an_http_1_0_client_may_keep_its_connection() -> None:
    async with rig(Engine("a", plain)) as house:
        client = await house.client()
        for _ in range(2):
            await client.send(post(extra=b"Connection: keep-alive\r\n").replace(b"HTTP/1.1", b"HTTP/1.0"))
            answer = await client.answer()
            assert (answer.status, answer.header("connection")) == (200, "keep-alive")


async def test_head_has_no_body_and_keeps_the_length_it_tells_of() -> None:
    """Trap: httptools has no switch for HEAD."""

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n")

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        for _ in range(2):
            await client.send(b"HEAD /v1/files/x HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = await client.answer("HEAD")
            assert (answer.status, answer.header("content-length")) == (200, "99")


async def test_204_and_304_have_no_body() -> None:
    async def script(call: Call) -> None:
        status = (
            b"204 No Content\r\ncontent-length: 0"
            if call.number == 0
            else b"304 Not Modified\r\ncontent-length: 5\r\netag: x"
        )
        await call.send(b"HTTP/1.1 %b\r\n\r\n" % status)

    engine = Engine("a", script)
    async with rig(engine) as house:
        client = await house.client()
        await client.send(b"GET /v1/files/x HTTP/1.1\r\nHost: h\r\n\r\n")
        first = await client.answer("GET")
        await client.send(b"GET /v1/files/x HTTP/1.1\r\nHost: h\r\n\r\n")
        second = await client.answer("GET")
        assert (first.status, first.header("content-length")) == (204, None)
        assert (second.status, second.header("content-length"), second.header("etag")) == (304, "5", "x")
    assert engine.connections == 1


async def test_interim_answers_are_not_the_answer() -> None:
    """Trap: 1xx fires message_complete."""

    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        await call.answer(b"1")

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post())
        assert (answer.status, answer.body, answer.header("link")) == (200, b"1", None)


async def test_trailers_are_dropped_and_cannot_pose_as_headers() -> None:
    """Trap: trailers arrive through on_header after the head."""

    async def script(call: Call) -> None:
        await call.send(SSE + b"3\r\nabc\r\n0\r\nx-enginehouse-service: evil\r\nset-cookie: a\r\n\r\n")

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        await client.send(post())
        assert b"evil" not in await client.read_head()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\nabc\r\n0\r\n\r\n"
        await client.send(post())
        assert (await client.answer()).header("set-cookie") is None


async def test_gzip_answers_stay_gzip_and_are_labelled_so() -> None:
    """Defect: Gzip answers are decoded but still labelled gzip."""
    packed = gzip.compress(b'{"a":1}')

    async def script(call: Call) -> None:
        await call.answer(packed, extra=b"content-encoding: gzip\r\n")

    engine = Engine("a", script)
    async with rig(engine) as house:
        answer = await house.ask(post(extra=b"Accept-Encoding: gzip\r\n"))
        assert answer.body == packed
        assert answer.header("content-encoding") == "gzip"
    assert engine.calls[0].header(b"accept-encoding") == [b"gzip"]


async def test_expect_100_continue_is_answered_by_the_router_and_not_passed_on() -> None:
    engine = Engine("a", plain)
    async with rig(engine) as house:
        client = await house.client()
        head, _, body = post(extra=b"Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        await client.send(head + b"\r\n\r\n")
        assert await client.read_head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(body)
        assert (await client.answer()).status == 200
    assert engine.calls[0].header(b"expect") == []


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(call: Call) -> None:
        await call.answer(call.body)

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        bodies = [b'{"model":"m","n":%d}' % n for n in range(20)]
        await client.send(b"".join(post(body) for body in bodies))
        assert [(await client.answer()).body for _ in bodies] == bodies


async def test_a_pipelined_request_in_pieces_is_answered_too() -> None:
    async def script(call: Call) -> None:
        await call.answer(call.body)

    async with rig(Engine("a", script)) as house:
        client = await house.client()
        whole = post(b'{"model":"m","n":1}') + post(b'{"model":"m","n":2}')
        for at in range(len(whole)):
            await client.send(whole[at : at + 1])
        assert [(await client.answer()).body[-2:] for _ in range(2)] == [b"1}", b"2}"]


async def test_connections_to_engines_are_reused() -> None:
    engine = Engine("a", plain)
    async with rig(engine) as house:
        client = await house.client()
        for _ in range(5):
            await client.send(post())
            assert (await client.answer()).status == 200
    assert engine.connections == 1


async def test_a_connection_is_not_reused_after_a_stream_or_an_error_of_llama_cpp() -> None:
    async def script(call: Call) -> None:
        if b"stream" in call.body:
            await call.send(SSE.replace(b"\r\n\r\n", b"\r\nServer: llama.cpp\r\n\r\n") + b"3\r\nabc\r\n0\r\n\r\n")
        else:
            await call.answer(status=b"400 Bad Request", extra=b"Server: llama.cpp\r\n")

    engine = Engine("a", script)
    async with rig(engine) as house:
        client = await house.client()
        for body in (b'{"model":"m","stream":true}', b'{"model":"m"}', b'{"model":"m"}'):
            await client.send(post(body))
            await client.answer()
    assert engine.connections == 3


async def test_h2c_upgrade_offers_are_ignored_and_the_body_is_not_lost() -> None:
    """Trap: a POST with `Upgrade: h2c` (Java's default client) loses its body."""
    engine = Engine("a", plain)
    async with rig(engine) as house:
        offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        client = await house.client()
        for _ in range(2):
            await client.send(post(b'{"model":"m","x":1}', extra=offer))
            assert (await client.answer()).status == 200
    assert [call.body for call in engine.calls] == [b'{"model":"m","x":1}'] * 2
    assert engine.calls[0].header(b"upgrade") == engine.calls[0].header(b"http2-settings") == []


async def test_an_answer_in_a_transfer_coding_that_nobody_asked_for_is_a_bad_response() -> None:
    """Its label goes one hop only: the client would take the coded bytes for the answer."""

    async def script(call: Call) -> None:
        body = gzip.compress(b'{"ok":true}')
        coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
        await call.send(coded % (len(body), body))

    async with rig(Engine("a", script)) as house:
        answer = await house.ask(post())
        assert answer.status == 502
        assert b"Transfer-Encoding" in answer.body
