"""The discrete-event mode of the bench of routing: jobs, the virtual fleet, routers on it.

Owns tests of `job`, `des`, `ours`, `others` and `metrics`. May not live here: the engine model's own tests.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from bench.routing.des import Fleet, Incident
from bench.routing.job import Job, jobs
from bench.routing.metrics import figures
from bench.routing.others import OTHERS, Router
from bench.routing.ours import Ours, prompt_of
from bench.routing.workloads import documents
from enginehouse.replay.traces import Session, Trace, Turn
from enginehouse.replay.workloads import Agents, make
from enginehouse.sim.constants import H100_8B

CONSTANTS = replace(H100_8B, block_size=512)
KV = H100_8B.kv_tokens


def few(requests: int = 200) -> list[Job]:
    """Questions about documents."""
    return jobs(documents(requests, 10.0, 1))


def test_a_later_turn_has_everything_said_before_in_front_of_it() -> None:
    turns = (Turn(1024 + 100, 50, (7, 8, 9)), Turn(600, 10, (20, 21), 2.0), Turn(10, 10, (22,)))
    first, second, third = jobs(Trace("t", [Session(5.0, turns)]))
    assert (first.at, second.at, first.after, second.after, third.after) == (5.0, 2.0, -1, 0, 1)
    assert (first.tokens, second.tokens, third.tokens) == (1124, 1124 + 50 + 600, 1774 + 10 + 10)
    assert first.blocks == (7, 8, 9)
    assert second.blocks[:2] == (7, 8)
    assert len(second.blocks) == 4
    assert third.blocks[:3] == second.blocks[:3]
    assert second.kept == second.blocks[:3]


def test_no_two_sessions_share_what_they_say_after_their_first_turn() -> None:
    trace = make(Agents(sessions=6, turns=4), Random(1))
    found = jobs(trace)
    firsts = {block for session in trace.sessions for block in session.turns[0].blocks}
    by_session: dict[int, set[int]] = {}
    owner: dict[int, int] = {}
    for number, job in enumerate(found):
        owner[number] = owner[job.after] if job.after >= 0 else number
        by_session.setdefault(owner[number], set()).update(set(job.blocks) - firsts)
    assert len(by_session) == 6
    assert sum(map(len, by_session.values())) == len(set().union(*by_session.values()))


def test_prompts_have_equal_chunks_as_far_as_their_blocks_are_equal() -> None:
    one = prompt_of(Job(0, (1, 2, 3, 4), 2048, 1, ()), 512)
    other = prompt_of(Job(0, (1, 2, 5, 4), 2048, 1, ()), 512)
    same = [a == b for a, b in zip(one.chunks, other.chunks, strict=True)]
    assert [end for end, equal in zip(one.ends, same, strict=False) if equal] == [1024, 2048, 3072, 4096]
    assert one.size == 8192


@pytest.mark.parametrize("name", [*OTHERS, "ours", "ours with two workers"])
def test_every_job_is_answered_and_nothing_stays_counted(name: str) -> None:
    router: Router
    if name in OTHERS:
        router = OTHERS[name](4, KV)
    else:
        router = Ours(4, KV, workers=2 if "two" in name else 1)
    asked = few()
    records = Fleet(asked, CONSTANTS, 4, router).run()
    assert len(records) == len(asked)
    assert all(record.asked < record.first <= record.ended for record in records)
    assert sum(record.output for record in records) == sum(job.output for job in asked)
    if isinstance(router, Ours):
        assert not any(router.in_flight(engine) for engine in range(4))


def test_turns_of_an_agent_come_after_the_answers_before_them() -> None:
    asked = jobs(make(Agents(sessions=10, turns=3), Random(1)))
    records = Fleet(asked, CONSTANTS, 2, Ours(2, KV)).run()
    assert len(records) == 30
    assert figures(records, 30, 2)["hit"] > 0.5


def test_requests_of_a_killed_engine_are_answered_by_others() -> None:
    asked = few()
    incidents = [Incident(5.0, "killed", 0), Incident(12.0, "joined", 0), Incident(13.0, "slowed", 1, 3.0)]
    records = Fleet(asked, CONSTANTS, 3, Ours(3, KV), incidents).run()
    assert len(records) == len(asked)
    assert any(record.attempts == 2 for record in records)
    assert not any(record.engine == 0 and 5.0 < record.asked < 12.0 for record in records)
    assert any(record.engine == 0 and record.asked > 12.0 for record in records)


def test_a_router_that_knows_prefixes_finds_more_of_them() -> None:
    asked = few(400)
    found = {}
    routers: dict[str, Router] = {"ours": Ours(4, KV), "turns": OTHERS["round robin"](4, KV)}
    for name, router in routers.items():
        found[name] = figures(Fleet(asked, CONSTANTS, 4, router).run(), len(asked), 4)
    assert found["ours"]["hit"] > 1.5 * found["turns"]["hit"]
    assert found["ours"]["ttft_mean"] < found["turns"]["ttft_mean"]
