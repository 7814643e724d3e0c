"""When engines are looked at: at once, never twice at a time, sooner when somebody pokes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from enginehouse.control.probe import Look
from enginehouse.control.prober import MAX_LOOKS, Prober
from enginehouse.control.roster import Entry
from enginehouse.core.record import parse_record
from enginehouse.machines.health import Health, ProbeFailed, ProbePassed
from tests.control.rig import until

DEADLINE = 20.0


def entry(name: str = "a") -> Entry:
    return Entry(parse_record({"name": name, "host": "127.0.0.1", "port": 1}), "static", 0, 1, Health(3))


class Eye:
    """Looks at engines; a test decides when a look ends and what it finds."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.running: dict[str, int] = {}
        self.most = 0
        self.overlaps = 0
        self.begun: list[str] = []
        self.found: asyncio.Queue[str] = asyncio.Queue()
        self.passing = True
        self.broken = False

    async def look(self, at: Entry) -> Look:
        self.begun.append(at.name)
        self.overlaps += self.running.get(at.name, 0)
        self.running[at.name] = self.running.get(at.name, 0) + 1
        self.most = max(self.most, sum(self.running.values()))
        try:
            await self.open.wait()
            if self.broken:
                raise RuntimeError("a bug")
        finally:
            self.running[at.name] -= 1
        return Look(ProbePassed() if self.passing else ProbeFailed("bad"))

    def seen(self, at: Entry, look: Look) -> None:
        at.health.handle(look.event, 0.0)
        self.found.put_nowait(at.name)

    async def next(self) -> str:
        async with asyncio.timeout(DEADLINE):
            return await self.found.get()


@asynccontextmanager
async def watching(eye: Eye, *entries: Entry, interval: float = 60.0) -> AsyncIterator[Prober]:
    prober = Prober(eye.look, eye.seen, interval)
    prober.follow({each.name: each for each in entries})
    try:
        yield prober
    finally:
        await prober.close()


async def test_a_service_is_looked_at_as_soon_as_it_is_followed() -> None:
    eye = Eye()
    async with watching(eye, entry("a"), entry("b")):
        assert {await eye.next(), await eye.next()} == {"a", "b"}


async def test_health_rounds_overlap__a_slow_engine_is_looked_at_once_at_a_time_and_delays_no_other() -> None:
    """Defect: Health rounds overlap."""
    eye = Eye()
    eye.open.clear()
    slow, quick = entry("slow"), entry("quick")
    async with watching(eye, slow, interval=0.01) as prober:
        for _ in range(5):
            prober.poke(slow)
            await asyncio.sleep(0.05)
        prober.follow({"slow": slow, "quick": quick})
        await until(lambda: "quick" in eye.begun, "a look at the quick one")
        assert eye.begun.count("slow") == 1
        eye.open.set()
        await until(lambda: eye.begun.count("slow") >= 3, "more looks at the slow one")
    assert eye.overlaps == 0


async def test_a_poke_during_a_look_leads_to_another_one_because_the_first_may_have_begun_too_early() -> None:
    eye = Eye()
    eye.open.clear()
    one = entry()
    async with watching(eye, one) as prober:
        await until(lambda: eye.begun, "the first look")
        prober.poke(one)
        eye.open.set()
        assert [await eye.next(), await eye.next()] == ["a", "a"]


async def test_many_pokes_make_few_looks() -> None:
    eye = Eye()
    one = entry()
    async with watching(eye, one) as prober:
        await eye.next()
        started = asyncio.get_running_loop().time()
        for _ in range(100):
            prober.poke(one)
            await asyncio.sleep(0.005)
        lasted = asyncio.get_running_loop().time() - started
        assert 2 <= len(eye.begun) <= 2 + lasted / 0.2


async def test_a_service_that_is_down_is_looked_at_again_long_before_the_usual_interval() -> None:
    eye = Eye()
    eye.passing = False
    async with watching(eye, entry(), interval=3600.0):
        for _ in range(3):
            await eye.next()


async def test_a_house_that_appears_at_once_is_not_looked_at_in_bursts_afterwards() -> None:
    eye, names = Eye(), [str(number) for number in range(100)]
    async with watching(eye, *map(entry, names), interval=2.0):
        for _ in names:
            await eye.next()
        times = []
        for _ in names:
            await eye.next()
            times.append(asyncio.get_running_loop().time())
    assert times[-1] - times[0] > 0.5


async def test_what_is_no_longer_followed_is_no_longer_looked_at() -> None:
    eye = Eye()
    one = entry()
    async with watching(eye, one, interval=0.2) as prober:
        await eye.next()
        prober.follow({})
        prober.poke(one)
        seen = len(eye.begun)
        await asyncio.sleep(0.5)
        assert len(eye.begun) == seen


async def test_looks_at_once_are_bounded() -> None:
    eye = Eye()
    eye.open.clear()
    entries = [entry(f"e{n}") for n in range(3 * MAX_LOOKS)]
    async with watching(eye, *entries):
        await until(lambda: len(eye.begun) >= MAX_LOOKS, "the first looks")
        eye.open.set()
        for _ in entries:
            await eye.next()
    assert eye.most == MAX_LOOKS


async def test_a_bug_in_a_look_is_a_failed_probe_and_does_not_end_the_watch() -> None:
    eye = Eye()
    eye.broken = True
    one = entry()
    async with watching(eye, one) as prober:
        await eye.next()
        assert not one.health.up
        eye.broken = False
        prober.poke(one)
        await eye.next()
        assert one.health.up
