"""Requests that wait for a service: in front of engines at their caps, of none that is ready, through a real worker."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from enginehouse.core.fleet import Fleet
from enginehouse.core.outcome import Outcome
from enginehouse.policy.admission import FRACTION, unpacked
from enginehouse.policy.line import line_apart
from tests.data.rig import DEADLINE, Answer, Call, Client, Engine, Rig, post, rig, service_of, until


class Slow:
    """An engine's script: each request is answered when the test says so, in order of arrival unless it says which."""

    def __init__(self) -> None:
        self.held: list[tuple[Call, asyncio.Event]] = []
        self.most = 0
        """Requests that it had at the same time, at most."""

    async def __call__(self, call: Call) -> None:
        let_go = asyncio.Event()
        self.held.append((call, let_go))
        self.most = max(self.most, len(self.held))
        await let_go.wait()
        await call.answer(json.dumps({"asked": call.body.decode()}).encode())

    def let_go(self, count: int = 1) -> None:
        """Answer the requests that are held for longest."""
        for _ in range(count):
            self.held.pop(0)[1].set()

    async def holds(self, count: int) -> None:
        """Until it has so many requests."""
        await until(lambda: len(self.held) == count)

    @property
    def said(self) -> list[str]:
        """What the requests say that it has now."""
        return [json.loads(call.body)["say"] for call, _ in self.held]


def ask(say: str = "", key: str = "", model: str | None = "m") -> bytes:
    """A request; `key`: the client's API key."""
    named = {} if model is None else {"model": model}
    extra = b"Authorization: Bearer %b\r\n" % key.encode() if key else b""
    return post(json.dumps(named | {"say": say}).encode(), extra=extra)


async def asked(house: Rig, *requests: bytes) -> list[Client]:
    """One client for each request, which has reached the worker before the next one is sent."""
    clients: list[Client] = []
    before = waiting(house) + house.load()
    for request in requests:
        client = await house.client()
        await client.send(request)
        clients.append(client)
        await until(lambda: waiting(house) + house.load() == before + len(clients))
    return clients


def waiting(house: Rig) -> int:
    return sum(line.size for line in house.worker.room.waiting.values())


def error_of(answer: Answer) -> dict[str, Any]:
    return dict(json.loads(answer.body)["error"])


# -- engines at their caps ---------------------------------------------------------------------------------------------


async def test_what_an_engine_cannot_take_now_waits_and_is_answered_in_order() -> None:
    """Defect: No metrics, no tracing, no auth, no queue, no drain."""
    slow = Slow()
    async with rig(Engine("a", slow, capacity=2), sweep=60) as house:
        clients = await asked(house, *[ask(str(number)) for number in range(5)])
        assert (slow.said, waiting(house), house.load()) == (["0", "1"], 3, 2)
        for number in range(2, 5):
            slow.let_go()
            await slow.holds(2)
            assert slow.said[-1] == str(number)
        slow.let_go(2)
        answers = [await client.answer() for client in clients]
        assert [answer.status for answer in answers] == [200] * 5
        assert slow.most == 2


async def test_an_answer_tells_its_place_in_line_and_how_long_it_waited() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1)) as house:
        clients = await asked(house, ask("0"), ask("1"), ask("2"))
        await asyncio.sleep(0.05)
        for _ in clients:
            await slow.holds(1)
            slow.let_go()
        first, second, third = [await client.answer() for client in clients]
        assert (first.header("x-enginehouse-queue-ms"), first.header("x-enginehouse-queue-position")) == ("0", None)
        assert [answer.header("x-enginehouse-queue-position") for answer in (second, third)] == ["1", "2"]
        for answer in (second, third):
            assert int(answer.header("x-enginehouse-queue-ms") or "") >= 50
            assert float(answer.header("x-enginehouse-overhead-ms") or "") < 5000


async def test_clients_take_turns_by_their_keys() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1)) as house:
        busy = [ask(f"busy {number}", "busy") for number in range(4)]
        clients = await asked(house, *busy, ask("other 0", "other"), ask("other 1", "other"))
        order = []
        for _ in clients:
            await slow.holds(1)
            order += slow.said
            slow.let_go()
        assert order == ["busy 0", "busy 1", "other 0", "busy 2", "other 1", "busy 3"]
        assert {(await client.answer()).status for client in clients} == {200}


async def test_behind_a_trusted_proxy_without_keys_the_addresses_take_turns() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1)) as house:
        one, two = b"X-Forwarded-For: 192.0.2.1\r\n", b"X-Forwarded-For: 192.0.2.2\r\n"
        says = [(one, "1"), (one, "2"), (one, "3"), (two, "other")]
        requests = [post(json.dumps({"model": "m", "say": say}).encode(), extra=extra) for extra, say in says]
        clients = await asked(house, *requests)
        order = []
        for _ in clients:
            await slow.holds(1)
            order += slow.said
            slow.let_go()
        assert order == ["1", "2", "other", "3"]
        assert {(await client.answer()).status for client in clients} == {200}


async def test_a_request_goes_to_whichever_service_is_free_first() -> None:
    slow, quick = Slow(), Slow()
    async with rig(Engine("slow", slow, capacity=1), Engine("quick", quick, capacity=1)) as house:
        clients = await asked(house, *[ask(str(number)) for number in range(4)])
        for _ in range(2):
            quick.let_go()
            await quick.holds(1)
        quick.let_go()
        slow.let_go()
        names = [(await client.answer()).header("x-enginehouse-service") for client in clients]
        assert sorted(names[:2], key=str) == ["quick", "slow"]
        assert names[2:] == ["quick", "quick"]


async def test_a_newcomer_does_not_overtake_those_that_wait() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1)) as house:
        clients = await asked(house, ask("0"), ask("1", "k"))
        house.worker.room.offer = lambda *_: None  # type: ignore[method-assign]  # whoever waits has not heard yet
        slow.let_go()
        await clients[0].answer()
        await until(lambda: not house.load())
        newcomer = await house.client()
        await newcomer.send(ask("2", "k"))
        for say in ("1", "2"):
            await slow.holds(1)
            assert slow.said == [say]
            slow.let_go()
        assert [(await client.answer()).status for client in (clients[1], newcomer)] == [200, 200]


async def test_the_same_connection_carries_on_after_a_request_that_waited() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1)) as house:
        (first,) = await asked(house, ask("first"))
        client = await house.client()
        await client.send(ask("one") + ask("two"))
        for say in ("first", "one", "two"):
            await slow.holds(1)
            assert slow.said == [say]
            slow.let_go()
        assert [(await reader.answer()).status for reader in (first, client, client)] == [200, 200, 200]


async def test_a_stream_holds_its_place_until_its_end() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    end = asyncio.Event()

    async def stream(call: Call) -> None:
        await call.send(head + b"a\r\ndata: 1\n\n\n\r\n")
        await end.wait()
        await call.send(b"0\r\n\r\n")

    async with rig(Engine("a", stream, capacity=1)) as house:
        first, second = await asked(house, ask(), ask())
        await first.read_head()
        assert waiting(house) == 1
        end.set()
        assert (await second.answer()).status == 200
        await first.reader.readuntil(b"0\r\n\r\n")


@pytest.mark.parametrize("model", ["m", None])
async def test_however_many_ask_an_engine_never_has_more_than_its_cap(model: str | None) -> None:
    most = now = 0

    async def count(call: Call) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        await call.answer()

    async with rig(Engine("a", count, capacity=3)) as house:

        async def go_on(number: int) -> set[int]:
            client, seen = await house.client(), set()
            for _ in range(5):
                await client.send(ask(str(number), f"key {number % 7}", model))
                seen.add((await client.answer()).status)
            return seen

        found = await asyncio.gather(*[go_on(number) for number in range(30)])
        assert set.union(*found) == {200}
        assert most == 3
        assert not house.worker.room.waiting
        await until(lambda: not house.shared.crowded[0])


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_a_full_line_is_an_honest_503() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), queue_size=2) as house:
        clients = await asked(house, ask(), ask(), ask())
        refused = await house.ask(ask())
        assert refused.status == 503
        assert error_of(refused)["code"] == "server_is_overloaded"
        assert "queue_size" in error_of(refused)["message"]
        assert refused.header("retry-after") == "5"
        assert refused.header("x-enginehouse-attempts") == "0"
        for _ in clients:
            await slow.holds(1)
            slow.let_go()
        assert {(await client.answer()).status for client in clients} == {200}


async def test_in_a_full_line_another_clients_request_takes_the_place_of_the_last_one_of_the_busiest() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), queue_size=2) as house:
        clients = await asked(house, ask("0", "busy"), ask("1", "busy"), ask("2", "busy"))
        other = await house.client()
        await other.send(ask("other", "other"))
        refused = await clients[2].answer()
        assert (refused.status, error_of(refused)["code"]) == (503, "server_is_overloaded")
        for say in ("0", "1", "other"):
            await slow.holds(1)
            assert slow.said == [say]
            slow.let_go()
        assert [(await client.answer()).status for client in (clients[0], clients[1], other)] == [200, 200, 200]


async def test_retry_after_is_the_length_of_the_line_at_the_pace_it_moves() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), queue_size=20) as house:
        real, ahead = house.worker.now, 0.0
        house.worker.now = lambda: real() + ahead
        clients = await asked(house, *[ask() for _ in range(21)])
        for _ in range(4):  # one in two seconds
            ahead += 2.0
            slow.let_go()
            await slow.holds(1)
        clients += await asked(house, *[ask() for _ in range(4)])
        refused = await house.ask(ask())
        # The first departure is the beginning of what is measured: four of them took six seconds and a little.
        assert 30 <= int(refused.header("retry-after") or "") <= 34
        for _ in range(21):
            await slow.holds(1)
            slow.let_go()
        assert {(await client.answer()).status for client in clients} == {200}


async def test_a_request_that_waited_as_long_as_it_may_is_an_honest_503() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), queue_timeout=0.1) as house:
        (first,) = await asked(house, ask())
        refused = await house.ask(ask())
        assert (refused.status, error_of(refused)["code"]) == (503, "server_is_overloaded")
        assert "queue_timeout" in error_of(refused)["message"]
        assert int(refused.header("retry-after") or "") >= 1
        assert int(refused.header("x-enginehouse-queue-ms") or "") >= 100
        assert not house.worker.room.waiting
        slow.let_go()
        assert (await first.answer()).status == 200


async def test_without_a_queue_what_nobody_can_take_now_is_refused_at_once() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), queue_size=0) as house:
        (first,) = await asked(house, ask())
        refused = await house.ask(ask())
        assert (refused.status, error_of(refused)["code"]) == (503, "server_is_overloaded")
        slow.let_go()
        assert (await first.answer()).status == 200


async def test_a_client_that_leaves_gives_up_its_place_and_its_engine_never_hears_of_it() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), sweep=60) as house:
        first, gone, third = await asked(house, ask("0"), ask("gone"), ask("2"))
        gone.close()
        await until(lambda: waiting(house) == 1)
        for say in ("0", "2"):
            await slow.holds(1)
            assert slow.said == [say]
            slow.let_go()
        assert [(await client.answer()).status for client in (first, third)] == [200, 200]


async def test_a_stop_answers_those_that_still_wait_at_once_and_lets_the_others_finish() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), queue_timeout=100.0, drain_timeout=100.0) as house:
        first, second = await asked(house, ask(), ask())
        house.worker.stopping = True
        house.worker.end(successor=False)
        draining = asyncio.create_task(house.worker._drain())
        refused = await second.answer()
        assert (refused.status, error_of(refused)["code"]) == (503, "server_is_overloaded")
        assert not house.worker.room.waiting
        slow.let_go()
        assert (await first.answer()).status == 200
        await asyncio.wait_for(draining, DEADLINE)


# -- nobody ready ------------------------------------------------------------------------------------------------------


async def test_a_request_for_a_model_whose_service_is_not_ready_waits_for_it() -> None:
    slow = Slow()
    engine = Engine("a", slow, up=False)
    async with rig(engine, sweep=60) as house:
        (client,) = await asked(house, ask())
        assert waiting(house) == 1
        engine.extra["up"] = True
        house.worker.use_fleet(Fleet(version=2, synced=True, services=(service_of(engine, 0),)))
        await slow.holds(1)
        slow.let_go()
        answer = await client.answer()
        assert (answer.status, answer.header("x-enginehouse-queue-position")) == (200, "1")


async def test_a_router_that_does_not_know_yet_what_there_is_lets_requests_wait() -> None:
    async def answers(call: Call) -> None:
        await call.answer()

    engine = Engine("a", answers)
    async with rig(engine) as house:
        house.worker.use_fleet(Fleet(version=2, synced=False))
        clients = await asked(house, ask(), ask(model="never heard of"), ask(model=None))
        house.worker.use_fleet(Fleet(version=3, synced=True, services=(service_of(engine, 0),)))
        found = [await client.answer() for client in clients]
        assert [answer.status for answer in found] == [200, 503, 200]
        assert error_of(found[1])["code"] == "model_not_found"


async def test_a_model_that_nobody_has_ever_served_is_refused_at_once() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1)) as house:
        (first,) = await asked(house, ask())
        refused = await house.ask(ask(model="x"))
        assert (refused.status, error_of(refused)["code"]) == (503, "model_not_found")
        slow.let_go()
        assert (await first.answer()).status == 200


async def test_who_waits_in_vain_for_a_model_that_nobody_serves_now_is_told_so() -> None:
    async with rig(Engine("a", Slow()), queue_timeout=0.05) as house:
        refused = await house.ask(ask(model="gone"))
        assert refused.status == 503
        assert error_of(refused)["message"].startswith("No healthy services available for model 'gone'")
        assert refused.header("retry-after") == "5"


# -- several workers, failing engines, learned caps --------------------------------------------------------------------


async def test_a_place_that_another_worker_has_freed_is_taken_when_it_tells() -> None:
    slow = Slow()
    async with rig(Engine("a", slow, capacity=1), sweep=60) as house:
        await until(lambda: house.shared.beats[0])
        house.shared.states[1], house.shared.beats[1] = 1, house.worker.now()
        house.worker.loads.loads = house.shared.living(0)
        house.shared.loads[1][0] = 1
        (client,) = await asked(house, ask())
        assert waiting(house) == 1
        house.shared.loads[1][0] = 0
        house.worker._rung(0, 1)
        await slow.holds(1)
        slow.let_go()
        assert (await client.answer()).status == 200


async def test_a_request_whose_engine_failed_waits_for_the_one_that_is_left() -> None:
    slow = Slow()

    async def die(call: Call) -> None:
        call.close()

    async with rig(Engine("bad", die), Engine("good", slow, capacity=1), max_errors=100) as house:
        clients = [await house.client() for _ in range(4)]
        for client in clients:
            await client.send(ask())
        await until(lambda: house.load() == 1 and waiting(house) == 3)
        for _ in clients:
            await slow.holds(1)
            slow.let_go()
        answers = [await client.answer() for client in clients]
        assert [answer.status for answer in answers] == [200] * 4
        assert {answer.header("x-enginehouse-service") for answer in answers} == {"good"}


class BreaksFirst(Slow):
    """Breaks off at requests that say "break", so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def __call__(self, call: Call) -> None:
        if self.times and json.loads(call.body)["say"] == "break":
            self.times -= 1
            call.close()
        else:
            await super().__call__(call)


async def test_a_request_that_every_service_has_failed_waits_apart_and_in_line_when_they_are_at_their_caps() -> None:
    slow = BreaksFirst(1)
    async with rig(Engine("a", slow, capacity=1), sweep=60) as house:
        room = house.worker.room
        (failed,) = await asked(house, ask("break"))
        await until(lambda: list(room.waiting) == [line_apart("m")])
        clients = await asked(house, ask("1"), ask("2"))
        assert slow.said == ["1"]
        room.offer_all(house.worker.now())  # as a sweep or a new fleet does
        assert list(room.waiting) == ["m"]
        for say in ("1", "2", "break"):
            await slow.holds(1)
            assert slow.said == [say]
            slow.let_go()
        answers = [await client.answer() for client in (failed, *clients)]
        assert [answer.status for answer in answers] == [200] * 3
        assert answers[0].header("x-enginehouse-attempts") == "2"


async def test_a_request_that_waits_for_the_second_time_has_less_time_left() -> None:
    slow = BreaksFirst(2)  # at a connection that was used before, which does not count, and at a new one
    async with rig(Engine("a", slow, capacity=1), sweep=60, queue_timeout=100.0) as house:
        real, ahead = house.worker.now, 0.0
        house.worker.now = lambda: real() + ahead
        room = house.worker.room
        first, second = await asked(house, ask("1"), ask("break"))
        ahead = 60.0
        slow.let_go()
        await until(lambda: list(room.waiting) == [line_apart("m")])
        ((until_then,),) = [line.clients["127.0.0.1"].values() for line in room.waiting.values()]
        assert until_then - house.worker.now() < 41
        room.offer_all(house.worker.now())
        await slow.holds(1)
        slow.let_go()
        assert [(await client.answer()).status for client in (first, second)] == [200, 200]


async def test_how_much_an_engine_bears_is_learned_from_what_it_refuses() -> None:
    now = most = refused = 0
    bears = 4

    async def strict(call: Call) -> None:
        nonlocal now, most, refused
        if now >= bears:
            refused += 1
            await call.answer(b'{"error":{"message":"busy"}}', b"429 Too Many Requests", b"retry-after: 0\r\n")
            return
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        await call.answer()

    async with rig(Engine("a", strict), learn_capacity=True, max_attempts=5) as house:

        async def go_on() -> list[int]:
            client, seen = await house.client(), []
            for _ in range(20):
                await client.send(ask())
                seen.append((await client.answer()).status)
            return seen

        found = await asyncio.gather(*[go_on() for _ in range(12)])
        assert most == bears
        cap = unpacked(house.shared.learned[0], 1) / FRACTION
        assert 1 <= cap <= bears + 2
        statuses = [status for seen in found for status in seen]
        assert statuses.count(200) > 0.8 * len(statuses)


async def test_nothing_is_learned_unless_it_is_asked_for() -> None:
    async def busy(call: Call) -> None:
        await call.answer(b"{}", b"429 Too Many Requests")

    async with rig(Engine("a", busy)) as house:
        assert (await house.ask(ask())).status == 429
        assert house.shared.learned[0] == 0


async def test_the_log_tells_how_long_a_request_waited_and_why_it_was_refused(tmp_path: Any) -> None:
    slow = Slow()
    log = tmp_path / "log"
    async with rig(Engine("a", slow, capacity=1), access_log=str(log), queue_timeout=0.1) as house:
        (first,) = await asked(house, ask())
        await house.ask(ask())
        slow.let_go()
        await first.answer()
        house.worker.ended.flush(house.worker.now())
        await until(lambda: log.exists() and log.read_text().count("\n") == 2)
        house.worker.access_log.close()
    late, answered = [json.loads(line) for line in log.read_text().splitlines()]
    assert (late["outcome"], late["status"], late["attempts"]) == (Outcome.QUEUE_TIMEOUT.value, 503, 0)
    assert late["queue_ms"] >= 100
    assert (answered["outcome"], answered["queue_ms"]) == ("answered", 0.0)
