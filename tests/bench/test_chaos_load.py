"""The load of the failure lab: no request is missing in its account, and what is repeated is said."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from bench.chaos import asks, load
from bench.chaos.asks import Expected
from bench.chaos.load import Load, Repeat, Seen, account
from bench.chaos.row import recovered
from bench.chaos.verdict import Kind, Verdict
from tests.e2e.engines import SimFactory

SOON = 20.0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not holds():  # noqa: ASYNC110  # a load tells nobody that it goes on
            await asyncio.sleep(0.01)


async def test_every_kind_of_request_is_answered_right_by_an_engine_that_nobody_disturbs(
    sim_engine: SimFactory,
) -> None:
    engine = sim_engine(models=("lab",), tokens=20)
    wanted = asks.mixed("lab", 20, 20)
    right = await asks.undisturbed(engine.port, wanted)
    assert len({each.text for each in right}) > 10
    running = Load(engine.port, wanted, right, rate=200)
    running.start()
    await until(lambda: len(running.seen) >= 40)
    await running.stop()
    # A simulated engine echoes no id: that is the router's part, and here the only thing that is wrong.
    assert {each.verdict.why for each in running.seen} == {"an answer to another request: x-request-id ''"}
    assert running.sent == len(running.seen) == account(running.seen).sent


@contextlib.asynccontextmanager
async def closes_first(count: int, used_before: bool) -> AsyncIterator[int]:
    """A server that closes without an answer: `count` connections, at once or after they carried a request each."""
    body = b'{"choices":[{"message":{"content":"yes"},"finish_reason":"stop"}]}'
    left = [count]
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):
            for number in range(1000):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                if left[0] and number == used_before:
                    left[0] -= 1
                    break
                own = head.split(b"x-request-id: ")[1].split(b"\r\n")[0]
                lines = b"x-request-id: %b\r\ncontent-length: %d" % (own, len(body))
                writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (lines, body))
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.gather(*[task for task in serving if task])


ASK = asks.Ask(asks.CHAT, b"{}", stream=False)
YES = Expected(({"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]},), "yes", ("stop",), b"")


@pytest.mark.parametrize(
    ("repeat", "used_before", "lost"),
    [
        (Repeat.NEVER, False, 1),
        (Repeat.NEVER, True, 1),
        (Repeat.CROSSED, False, 1),
        (Repeat.CROSSED, True, 0),
        (Repeat.SEVERED, False, 0),
        (Repeat.SEVERED, True, 0),
    ],
)
async def test_a_connection_that_ends_without_an_answer_loses_a_request_unless_clients_may_repeat_it(
    monkeypatch: pytest.MonkeyPatch, repeat: Repeat, used_before: bool, lost: int
) -> None:
    monkeypatch.setattr(load, "REPEATS", (0.0, 0.0))
    async with closes_first(1, used_before) as port:
        running = Load(port, [ASK], [YES], rate=100, repeat=repeat)
        running.start()
        await until(lambda: len(running.seen) >= 8)
        await running.stop()
    total = account(running.seen)
    assert (total.lost, total.repeated) == (lost, 1 - lost)
    assert total.right == total.sent - lost
    assert sum(total.samples.get("lost", {}).values()) == lost


async def test_nobody_listening_is_a_lost_request_after_all_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "REPEATS", (0.0, 0.0))
    async with closes_first(0, False) as port:
        pass
    running = Load(port, [ASK], [YES], rate=100, repeat=Repeat.SEVERED)
    running.start()
    await until(lambda: len(running.seen) >= 2)
    await running.stop()
    total = account(running.seen)
    assert total.lost == total.sent
    assert total.repeated == 2 * total.sent


def seen(began: float, ended: float, kind: Kind) -> Seen:
    return Seen(began, ended, Verdict(kind, "" if kind is Kind.RIGHT else "why"), ended - began, "a", 0)


def test_recovery_lasts_until_everything_is_as_before_and_no_request_fails_any_more() -> None:
    failed = [seen(9, 10, Kind.RIGHT), seen(10, 14.5, Kind.REFUSED), seen(14, 15, Kind.RIGHT)]
    assert recovered(failed, since=12, mended=13) == 2.5
    assert recovered(failed, since=12, mended=16) == 4
    assert recovered(failed[:1], since=12, mended=12) == 0
    assert recovered(failed, since=12, mended=None) is None


def test_the_account_keeps_the_most_frequent_reasons_only() -> None:
    many = [Seen(0, 1, Verdict(Kind.LOST, f"why {number}"), 1, "a", 0) for number in range(20)]
    total = account([*many, many[7]])
    assert (total.lost, total.bad, len(total.samples["lost"])) == (21, 21, load.MAX_SAMPLES)
    assert total.samples["lost"]["why 7"] == 2
