"""Playing: when requests go out, how sessions go on, what is kept in bounds, how a replay ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from enginehouse.core.config.sim import SimConfig
from enginehouse.replay import player as players
from enginehouse.replay.call import Ending
from enginehouse.replay.player import Player
from enginehouse.replay.run import Options, replay
from enginehouse.replay.text import Texts
from enginehouse.replay.traces import Session, Trace, Turn
from enginehouse.replay.workloads import Agents, Unique, make
from enginehouse.sim.server import serve
from tests.replay.engine import Asked, answer, scripted

DEADLINE = 30.0
WORDS = ["one", " two"]


def one(at: float, *blocks: int, tokens: int = 1024) -> Session:
    return Session(at, (Turn(tokens, 2, blocks or (1, 2)),))


async def well(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(WORDS))


async def played(url: str, trace: Trace, begun: Callable[[Player], None] = lambda _: None, **options: object) -> Player:
    async with asyncio.timeout(DEADLINE):
        return await replay(trace, Options(url=url, model="sim-model", **options), begun)  # type: ignore[arg-type]


async def test_requests_go_out_when_they_are_due_however_many_still_run() -> None:
    """Open loop: the engine answers nobody until everybody has asked."""
    everybody = asyncio.Event()

    async def waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(engine.asked) == 30:
            everybody.set()
        await everybody.wait()
        await well(asked, writer)

    trace = Trace("t", [one(0.01 * number) for number in range(30)])
    async with scripted(waits) as engine:
        done = await played(engine.url, trace)
    assert [call.ending for call in done.calls] == [Ending.ANSWERED] * 30
    assert [call.due - done.began for call in done.calls] == pytest.approx([0.01 * number for number in range(30)])
    assert all(call.sent >= call.due - 0.002 for call in done.calls)


async def test_the_prompts_are_the_text_of_the_traces_blocks() -> None:
    trace = Trace("t", [one(0.0, 7, 8), one(0.0, 7, 9, tokens=600)])
    async with scripted(well) as engine:
        await played(engine.url, trace)
    prompts = [asked.body["messages"][0]["content"] for asked in engine.asked]
    texts = Texts()
    assert sorted(prompts) == sorted([texts.prompt(1024, (7, 8)), texts.prompt(600, (7, 9))])
    assert prompts[0][:2048] == prompts[1][:2048]


async def test_the_trace_is_shaped_as_ordered() -> None:
    trace = Trace("t", [one(0.5 * number) for number in range(8)])
    async with scripted(well) as engine:
        done = await played(engine.url, trace, requests=4, rate_scale=5.0, time_scale=10.0)
    assert [call.due - done.began for call in done.calls] == pytest.approx([0.0, 0.01, 0.02, 0.03])


async def test_a_turn_has_all_before_it_answers_included_and_comes_after_its_delay() -> None:
    session = Session(0.0, (Turn(4, 2, (1,)), Turn(5, 2, (2,), delay=0.5), Turn(6, 2, (3,))))
    async with scripted(well) as engine:
        done = await played(engine.url, Trace("t", [session]), time_scale=10.0)
    texts = Texts()
    said = {"role": "assistant", "content": "one two"}
    asked = [{"role": "user", "content": texts.prompt(number + 3, (number,))} for number in (1, 2, 3)]
    assert [each.body["messages"] for each in engine.asked] == [
        [asked[0]],
        [asked[0], said, asked[1]],
        [asked[0], said, asked[1], said, asked[2]],
    ]
    first, second, third = done.calls
    assert second.due == pytest.approx(first.end + 0.05)
    assert third.due == second.end
    assert {call.session for call in done.calls} == {0}


async def test_a_session_whose_turn_fails_ends_and_the_others_go_on() -> None:
    async def refuses_the_first(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(engine.asked) == 1:
            writer.write(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
        else:
            await well(asked, writer)

    turns = (Turn(1, 2, (1,)), Turn(1, 2, (2,)))
    async with scripted(refuses_the_first) as engine:
        done = await played(engine.url, Trace("t", [Session(0.0, turns), Session(0.2, turns)]))
    assert [(call.session, call.ending) for call in done.calls] == [
        (0, Ending.STATUS),
        (1, Ending.ANSWERED),
        (1, Ending.ANSWERED),
    ]


async def test_in_a_closed_loop_that_many_run_and_never_more_whatever_the_times_are() -> None:
    most = 0

    async def counts(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, engine.open)
        await asyncio.sleep(0)
        await well(asked, writer)

    turns = (Turn(1, 2, (1,)), Turn(1, 2, (2,), delay=0.001))
    trace = Trace("t", [Session(3600.0 * number, turns) for number in range(40)])
    async with scripted(counts) as engine:
        done = await played(engine.url, trace, concurrency=3)
    assert [call.ending for call in done.calls] == [Ending.ANSWERED] * 80
    assert 1 <= most <= 3


async def test_stopping_reports_what_was_done_and_leaves_the_rest() -> None:
    released = asyncio.Event()
    made: list[Player] = []

    async def the_second_waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if len(engine.asked) == 2:
            made[0].stop()
            await released.wait()
        await well(asked, writer)

    trace = Trace("t", [one(0.0), one(0.3), one(3600.0)])
    async with scripted(the_second_waits) as engine:
        done = await played(engine.url, trace, made.append)
        released.set()
    assert [call.ending for call in done.calls] == [Ending.ANSWERED, Ending.UNFINISHED]
    assert done.in_flight == 0


async def test_what_would_be_too_many_at_once_is_not_sent_but_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(players, "MOST_IN_FLIGHT", 2)
    released = asyncio.Event()

    async def waits(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        await well(asked, writer)

    def begun(player: Player) -> None:
        asyncio.get_running_loop().call_later(0.6, released.set)

    async with scripted(waits) as engine:
        done = await played(engine.url, Trace("t", [one(0.01 * number) for number in range(5)]), begun)
    endings = [(call.ending, call.detail) for call in done.calls]
    assert endings == [(Ending.ANSWERED, "")] * 2 + [(Ending.NOT_SENT, "2 in flight")] * 3


async def test_a_defect_ends_the_replay_instead_of_leaving_it_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Player, "_ask", defect)
    async with scripted(well) as engine:
        with pytest.raises(ZeroDivisionError):
            await played(engine.url, Trace("t", [one(0.0)]))


async def test_the_loop_is_looked_at_all_the_time() -> None:
    async with scripted(well) as engine:
        done = await played(engine.url, Trace("t", [one(0.0), one(0.2)]))
    assert len(done.lags) >= 5
    assert min(done.lags) >= 0.0


@pytest.mark.parametrize("load", [Unique(requests=60, input=400, output=30), Agents(sessions=12, turns=4, first=300)])
async def test_a_simulated_engine_gives_exactly_the_tokens_that_were_asked_for(load: Unique | Agents) -> None:
    engine = await serve(SimConfig(tokens=4096))
    try:
        done = await played(f"{engine.url}/v1", make(load, Random(3)), time_scale=20.0)
    finally:
        await engine.stop()
    assert {call.ending for call in done.calls} == {Ending.ANSWERED}
    assert len(done.calls) == make(load, Random(3)).requests
    assert all(call.completion == call.turn.answer for call in done.calls)
    if isinstance(load, Unique):  # the engine counts four bytes a token, and the role's name
        assert all(0 <= call.prompt - call.turn.tokens <= 3 for call in done.calls)


async def test_a_real_engine_model_tells_the_prefixes_that_it_found_in_its_cache() -> None:
    engine = await serve(SimConfig(engine_model="h100-8b", time_scale=50.0, tokens=4096))
    trace = Trace("t", [Session(5.0 * number, (Turn(2048, 20, (1, 2, 3, 100 + number)),)) for number in range(6)])
    try:
        done = await played(f"{engine.url}/v1", trace, time_scale=50.0)
    finally:
        await engine.stop()
    assert {call.ending for call in done.calls} == {Ending.ANSWERED}
    assert done.calls[0].cached == 0
    assert all(1400 <= call.cached <= 1540 for call in done.calls[1:])


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        ("status:code=500", Ending.STATUS),
        ("status:code=429", Ending.REJECTED),
        ("reset:after=3", Ending.LOST),
        ("close:after=3", Ending.LOST),
        ("reset:after=-1", Ending.LOST),
        ("truncated_chunk:after=3", Ending.LOST),
        ("end:after=3", Ending.TRUNCATED),
        ("error_event:after=3", Ending.BROKEN),
        ("garbage", Ending.FRAMING),
        ("until_close", Ending.ANSWERED),
        ("trailers", Ending.ANSWERED),
        ("informational:code=103", Ending.ANSWERED),
        ("split:bytes=7", Ending.ANSWERED),
    ],
)
async def test_whatever_an_engine_does_each_call_ends_as_what_it_was(fault: str, ending: Ending) -> None:
    engine = await serve(SimConfig(tokens=100, faults=(fault,)))
    try:
        done = await played(f"{engine.url}/v1", make(Unique(requests=6, rate=1000, input=50, output=20), Random(1)))
    finally:
        await engine.stop()
    assert [call.ending for call in done.calls] == [ending] * 6
