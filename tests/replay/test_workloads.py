"""Made-up loads: their shape, their order in words, and that a written one reads as it was."""

from __future__ import annotations

from pathlib import Path
from random import Random
from statistics import mean

import pytest

from enginehouse.replay.traces import Trace, TraceError, read
from enginehouse.replay.workloads import Agents, Hot, Unique, Workload, lines, make, ordered


def blocks(trace: Trace) -> list[tuple[int, ...]]:
    return [turn.blocks for session in trace.sessions for turn in session.turns]


def test_agents_share_their_groups_system_prompt_and_nothing_else() -> None:
    trace = make(Agents(sessions=40, turns=3, groups=2, system=1000), Random(1))
    assert trace.requests == 120
    begins = {session.turns[0].blocks[:2] for session in trace.sessions}
    assert len(begins) == 2  # 1000 tokens are two blocks, whole ones: what follows begins with a block of its own
    own = [number for each in blocks(trace) for number in each if (number,) not in {(n,) for b in begins for n in b}]
    assert len(own) == len(set(own))
    assert all(turn.delay > 0 for session in trace.sessions for turn in session.turns[1:])


def test_a_hot_prefix_is_that_of_its_share_of_the_requests() -> None:
    trace = make(Hot(requests=1000, share=0.8, prefix=1024), Random(1))
    hot = max((each[:2] for each in blocks(trace)), key=[each[:2] for each in blocks(trace)].count)
    assert 750 < sum(each[:2] == hot for each in blocks(trace)) < 850


def test_requests_that_share_nothing_do_so() -> None:
    numbers = [number for each in blocks(make(Unique(requests=300), Random(1))) for number in each]
    assert len(numbers) == len(set(numbers))


def test_arrivals_and_lengths_have_the_means_that_were_ordered() -> None:
    trace = make(Unique(requests=5000, rate=8, input=600, output=100), Random(2))
    assert trace.sessions[-1].at == pytest.approx(5000 / 8, rel=0.1)
    assert mean(session.turns[0].tokens for session in trace.sessions) == pytest.approx(600, rel=0.1)
    assert mean(session.turns[0].answer for session in trace.sessions) == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("load", [Agents(sessions=5, delay=0), Agents(sessions=5), Hot(requests=9), Unique(requests=9)])
def test_a_load_that_was_written_reads_as_it_was(tmp_path: Path, load: Workload) -> None:
    made = make(load, Random(4))
    path = tmp_path / f"{made.name}.jsonl"
    path.write_bytes(b"".join(lines(made)))
    again = read(path)
    assert again.name == made.name
    for session, known in zip(again.sessions, made.sessions, strict=True):
        assert session.at == pytest.approx(known.at, abs=1e-6)
        assert [turn[:3] for turn in session.turns] == [turn[:3] for turn in known.turns]
        assert [turn.delay for turn in session.turns] == pytest.approx([t.delay for t in known.turns], abs=1e-6)


def test_the_same_seed_makes_the_same_load() -> None:
    assert make(Agents(), Random(7)) == make(Agents(), Random(7)) != make(Agents(), Random(8))


def test_a_load_is_ordered_in_words() -> None:
    assert ordered("agents") == Agents()
    assert ordered("agents:sessions=3,rate=0.5,delay=0") == Agents(sessions=3, rate=0.5, delay=0)
    assert ordered("hot:share=1") == Hot(share=1)
    assert ordered("conversation.jsonl") is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("agents:session=3", "has no setting 'session'; did you mean sessions"),
        ("agents:turns=none", "turns=none cannot be: .*int of at least 1"),
        ("agents:turns=0", "turns=0 cannot be"),
        ("hot:share=1.5", "between 0 and 1"),
        ("unique:rate=0", "rate=0 cannot be"),
        ("unique:rate=nan", "rate=nan cannot be"),
        ("agents:sessions=2000000", "requests are too many"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_with_what_would(words: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        ordered(words)
