"""Health end to end: control, a worker's wire and engines that die, hang and come back."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from enginehouse.core.fleet import ServiceCount
from enginehouse.core.shared import Standing
from tests.contract.foreign_registry import ForeignRegistry
from tests.control.rig import Scripted, engine, house, models, scripted, static, until, write_static
from tests.registry.running import service

SLOW = 3600.0  # an interval that never comes round within a test


async def test_an_engine_that_dies_is_out_at_once_when_a_request_fails_and_back_at_once_when_it_lives(
    short_dir: Path, tmp_path: Path
) -> None:
    async with scripted(health=(200, {})) as one, scripted(health=(200, {})) as two:
        file = write_static(tmp_path / "s.json", static("one", one.port), static("two", two.port))
        async with house(short_dir, static_services=file, health_interval=SLOW) as running, running.worker() as worker:
            fleet = await worker.until_up("one", "two")
            await one.close()
            worker.report(failed=(fleet.services[0],))
            await worker.until_up("two")
            assert (await running.details("one"))["reason"] == "connection refused"
            await one.listen()
            await worker.until_up("one", "two")


async def test_one_transport_error_benches_a_service__an_engine_that_is_well_stays(
    short_dir: Path, tmp_path: Path
) -> None:
    """Defect: One transport error benches a service."""
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=file, health_interval=SLOW) as running, running.worker() as worker:
            fleet = await worker.until_up("one")
            worker.report(failed=fleet.services)

            async def is_looked_at_again() -> bool:
                return one.asked.count("GET /health") == 2

            await until(is_looked_at_again, "a probe")
            assert await worker.silent(0.3), "nothing changed, so nothing is published"
            assert await running.healthy() == {"one"}


async def test_health_flaps__a_service_that_is_down_stays_down_while_its_registry_calls_it_healthy(
    short_dir: Path, tmp_path: Path
) -> None:
    """Defect: Health flaps: the sync asks for healthy services only, so every 10 s it sets bad ones back to healthy."""
    async with scripted(health=(503, {})) as bad:
        with ForeignRegistry() as registry:
            registry.register(service("bad", bad.port, metadata={"type": "openai-api", "models": ["m"]}))
            async with (
                house(short_dir, registry_url=registry.url, registry_sync_interval=0.05) as running,
                running.worker() as worker,
            ):
                fleet = await worker.until(lambda fleet: bool(fleet.services))
                seen = len(registry.calls)

                async def is_synced_often() -> bool:
                    assert await running.healthy() == set()
                    return len(registry.calls) > seen + 20

                await until(is_synced_often, "twenty syncs")
                assert not fleet.services[0].up
                assert await worker.silent(0.2)
                assert not any("healthy=" in call for call in registry.calls)


async def test_a_static_service_without_a_babysitter_turns_unhealthy__it_stays_healthy_round_after_round(
    short_dir: Path, tmp_path: Path
) -> None:
    """Defect: A static service without a babysitter at port+1 turns unhealthy, so a plain vLLM or llama.cpp cannot be
    used."""
    async with engine(models=("plain-model",)) as plain:
        file = write_static(tmp_path / "s.json", static("plain", plain.port))
        async with (
            house(short_dir, static_services=file, health_interval=0.05, max_errors=1) as running,
            running.worker() as worker,
        ):
            fleet = await worker.until_up("plain")
            assert fleet.services[0].models == ("plain-model",)
            assert await worker.silent(1.0)
            assert await running.healthy() == {"plain"}


async def test_models_an_engine_serves_are_learned_again_every_round(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(**{"health": (200, {}), "v1/models": models("a")}) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file, health_interval=0.2) as running, running.worker() as worker:
            await worker.until(lambda fleet: fleet.services[0].models == ("a",))
            one.answers["/v1/models"] = models("a", "lora")
            fleet = await worker.until(lambda fleet: fleet.services[0].models == ("a", "lora"))
            assert fleet.known_models == ("a", "lora")
            one.answers["/v1/models"] = (500, {})
            assert await worker.silent(0.5), "models stay when the engine does not say"
            one.answers["/v1/models"] = models("lora")
            fleet = await worker.until(lambda fleet: fleet.services[0].models == ("lora",))
            assert fleet.known_models == ("a", "lora")


async def test_an_idle_engine_that_dies_is_out_after_max_errors_rounds(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file, health_interval=0.2, max_errors=2) as running:
            await running.until_healthy("one")
            await one.close()
            await running.until_healthy()


async def test_a_service_that_a_worker_ejected_is_shown_unhealthy_and_stays_up_for_the_workers(
    short_dir: Path, tmp_path: Path
) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file, health_interval=SLOW) as running, running.worker() as worker:
            known = (await worker.until_up("one")).services[0]
            running.shared.put(known.slot, Standing(1, time.monotonic() + 3.0))
            worker.report(failed=(known,))
            await running.until_healthy()
            assert (await running.details("one"))["state"] == "ejected"
            assert worker.fleet is not None
            assert worker.fleet.services[0].up
            await running.until_healthy("one")

            async def is_up() -> bool:
                return bool((await running.details("one"))["state"] == "up")

            await until(is_up, "a probe after the deadline")


async def test_an_ejection_ends_when_the_engine_died_and_came_back(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file, health_interval=SLOW) as running, running.worker() as worker:
            known = (await worker.until_up("one")).services[0]
            await one.close()
            running.shared.put(known.slot, Standing(1, time.monotonic() + SLOW))
            worker.report(failed=(known, known, known))
            await worker.until_up()
            await one.listen()
            await worker.until_up("one")
            assert running.shared.ejected_until[known.slot] == 0.0
            standing = running.shared.standing(known.slot)
            assert standing.level == 1, "how often it was ejected is not forgotten with that"
            assert standing.slow_until == standing.slow_from + 10
            assert 0 < (await running.details("one"))["slow_start_for"] <= 10


async def test_what_requests_brought_a_service_is_shown_and_until_its_trial_it_is_not_healthy(
    short_dir: Path, tmp_path: Path
) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file, health_interval=SLOW) as running, running.worker() as worker:
            slot = (await worker.until_up("one")).services[0].slot
            names = ("ejected_for", "trial_for", "slow_start_for", "rests_for", "ejections_in_a_row")
            assert [(await running.details("one"))[name] for name in names] == [None] * 4 + [0]
            now = time.monotonic()
            running.shared.put(slot, Standing(2, now + 50, now + 60))
            running.shared.rest(slot, now + 40)
            told = await running.details("one")
            assert 40 < told["ejected_for"] <= 50 < told["trial_for"] <= 60
            assert (told["slow_start_for"], told["ejections_in_a_row"]) == (None, 2)
            assert 30 < told["rests_for"] <= 40
            running.shared.put(slot, Standing(2, now, now + 60))
            assert await running.healthy() == set()
            assert (await running.details("one"))["state"] == "ejected"
            running.shared.readmit(slot)
            assert await running.healthy() == {"one"}
            assert running.shared.latest_ejection[0] > now

            async def is_settled() -> bool:
                return running.shared.latest_ejection[0] == 0.0

            await until(is_settled, "workers need not look more closely any more")


async def test_a_late_failure_of_another_service_in_the_slot_is_nobodys_fault(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port, metadata={"models": ["m"]}))
        async with house(short_dir, static_services=file, health_interval=SLOW) as running, running.worker() as worker:
            known = (await worker.until_up("one")).services[0]
            worker.report(failed=(msgspec.structs.replace(known, generation=known.generation ^ 1),))
            assert await worker.silent(0.5)
            assert one.asked.count("GET /health") == 1


async def test_counts_of_workers_are_shown_per_service(short_dir: Path, tmp_path: Path) -> None:
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", static("one", one.port))
        async with house(short_dir, static_services=file) as running:
            async with running.worker(0) as first, running.worker(1) as second:
                known = (await first.until_up("one")).services[0]
                first.report(counts=(ServiceCount(known.slot, known.generation, 5, 1, 2.0, 4, 7, 8, 9),))
                second.report(counts=(ServiceCount(known.slot, known.generation, 3, 0, 1.0, 2),))

                async def is_counted() -> bool:
                    shown = await running.service("one")
                    return shown is not None and shown["request_count"] == 8

                await until(is_counted, "both counts")
            shown = await running.service("one")
            assert shown is not None
            assert (shown["error_count"], shown["response_time"]) == (1, 0.5)
            assert (shown["rejection_count"], shown["server_error_count"], shown["ejection_count"]) == (7, 8, 9)


async def test_a_name_that_cannot_be_resolved_is_told_and_no_service_is_up_for_it(
    short_dir: Path, tmp_path: Path
) -> None:
    file = write_static(tmp_path / "s.json", {"name": "one", "host": "no-such-host.invalid", "port": 80})
    async with house(short_dir, static_services=file) as running, running.worker() as worker:
        await worker.next()

        async def is_told() -> bool:
            return bool((await running.details("one"))["reason"] == "no-such-host.invalid cannot be resolved")

        await until(is_told, "the reason")
        assert await running.healthy() == set()


async def test_a_service_given_by_name_is_sent_to_the_workers_with_its_addresses(
    short_dir: Path, tmp_path: Path
) -> None:
    made = Scripted(health=(200, {}))
    await made.listen()
    file = write_static(tmp_path / "s.json", {"name": "one", "host": "localhost", "port": made.port})
    async with house(short_dir, static_services=file) as running, running.worker() as worker:
        known = (await worker.until_up("one")).services[0]
        assert known.host == "localhost"
        assert "127.0.0.1" in known.addresses
    await made.close()


async def test_names_are_resolved_again_while_running_and_a_moved_service_is_followed(
    short_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ["127.0.0.1"]

    async def getaddrinfo(*_: Any, **__: Any) -> list[tuple[Any, ...]]:
        return [(0, 0, 0, "", (address, 0)) for address in at]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with scripted(health=(200, {})) as one:
        file = write_static(tmp_path / "s.json", {"name": "one", "host": "engine.test", "port": one.port})
        settings: dict[str, Any] = {"static_services": file, "resolve_interval": 0.1, "health_interval": SLOW}
        async with house(short_dir, **settings) as running, running.worker() as worker:
            await worker.until_up("one")
            at[:] = ["127.0.0.1", "127.0.0.9"]
            fleet = await worker.until(lambda fleet: len(fleet.services[0].addresses) == 2)
            assert fleet.services[0].addresses == ("127.0.0.1", "127.0.0.9")
            at[:] = ["169.254.169.254"]
            fleet = await worker.until_up()
            assert fleet.services[0].addresses == ()
