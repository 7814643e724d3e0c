"""Traces: three formats become one, and what is wrong with a file is said with its line and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from enginehouse.replay.traces import Session, TraceError, Turn, read

MOONCAKE = """\
{"timestamp": 3000, "input_length": 700, "output_length": 20, "hash_ids": [0, 7]}
{"timestamp": 0, "input_length": 512, "output_length": 3, "hash_ids": [0]}

{"timestamp": 6000, "input_length": 1, "output_length": 0, "hash_ids": [9], "more": true}
"""
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,600,44\r\n"
    "2023-11-16 18:15:48.1805900,3,0\r\n"
    "2023-11-16 18:15:49,512,1"
)
SESSIONS = """\
{"timestamp": 500, "turns": [{"input_length": 513, "output_length": 9, "hash_ids": [1, 2]}, \
{"input_length": 4, "output_length": 5, "hash_ids": [3], "delay": 1500}]}
{"timestamp": 0, "turns": [{"input_length": 4, "output_length": 5, "hash_ids": [1]}]}
"""


def written(folder: Path, text: str, name: str = "trace.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_mooncakes_requests_come_in_the_order_of_their_times_in_seconds_from_the_first(tmp_path: Path) -> None:
    trace = read(written(tmp_path, MOONCAKE, "conversation.jsonl"))
    assert trace.name == "conversation"
    assert trace.sessions == [
        Session(0.0, (Turn(512, 3, (0,)),)),
        Session(3.0, (Turn(700, 20, (0, 7)),)),
        Session(6.0, (Turn(1, 1, (9,)),)),
    ]
    assert trace.requests == 3


def test_azures_requests_share_no_block(tmp_path: Path) -> None:
    trace = read(written(tmp_path, AZURE))
    assert [session.at for session in trace.sessions] == pytest.approx([0.0, 1.5, 2.31941], abs=1e-5)
    assert [session.turns for session in trace.sessions] == [
        (Turn(600, 44, (0, 1)),),
        (Turn(3, 1, (2,)),),
        (Turn(512, 1, (3,)),),
    ]


def test_azures_later_traces_with_a_zone_in_their_times_are_read_too(tmp_path: Path) -> None:
    rows = "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,2162,5\n"
    assert read(written(tmp_path, rows)).sessions[0].turns[0].tokens == 2162


def test_sessions_keep_their_turns_and_what_lies_between_them(tmp_path: Path) -> None:
    trace = read(written(tmp_path, SESSIONS))
    assert trace.requests == 3
    assert trace.sessions[1] == Session(0.5, (Turn(513, 9, (1, 2)), Turn(4, 5, (3,), 1.5)))


def test_the_example_of_the_documentation_is_a_trace(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "replay.md").read_text(encoding="utf-8")
    example = "".join(f"{line}\n" for line in page.splitlines() if line.startswith('{"timestamp"'))
    trace = read(written(tmp_path, example))
    assert [len(session.turns) for session in trace.sessions] == [2, 1]
    assert trace.sessions[0].turns[0].blocks[0] == trace.sessions[1].turns[0].blocks[0]


def test_the_first_requests_are_those_of_the_sessions_that_begin_first(tmp_path: Path) -> None:
    trace = read(written(tmp_path, SESSIONS))
    assert trace.first(2).sessions == [trace.sessions[0], Session(0.5, trace.sessions[1].turns[:1])]
    assert trace.first(99) == trace


def test_a_byte_order_mark_is_no_part_of_a_trace(tmp_path: Path) -> None:
    assert read(written(tmp_path, f"\ufeff{MOONCAKE}")).requests == 3
    assert read(written(tmp_path, f"\ufeff{AZURE}")).requests == 3


def test_blocks_of_another_size_are_read_when_their_size_is_given(tmp_path: Path) -> None:
    path = written(tmp_path, '{"timestamp": 0, "input_length": 40, "output_length": 3, "hash_ids": [0, 1, 2]}\n')
    assert read(path, block_tokens=16).sessions[0].turns[0].blocks == (0, 1, 2)
    with pytest.raises(TraceError, match=r"3 hash_ids for 40 tokens, which are 1 blocks of 512; .*--block-tokens"):
        read(path)


GOOD = '{"timestamp": 0, "input_length": 4, "output_length": 5, "hash_ids": [1]}\n'
TURN = '{"input_length": 4, "output_length": 5, "hash_ids": [1]}'


def session(*turns: str) -> str:
    return f'{{"timestamp": 0, "turns": [{", ".join(turns)}]}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: this is no trace"),
        ("name,age\nx,1\n", "line 1: this is no trace"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "holds no request"),
        (GOOD + "{broken\n", "line 2: JSON is malformed"),
        (GOOD + '{"timestamp": 0, "output_length": 5, "hash_ids": [1]}', "line 2: .*missing required field `input_len"),
        (GOOD + GOOD.replace("4", '"4"', 1), "line 2: Expected `int`, got `str`"),
        (GOOD.replace("4", "-4", 1), "line 1: -4 tokens in, 5 out: neither may be below 0"),
        (GOOD.replace("5", "99999999"), "line 1: 4 tokens in, 99999999 out"),
        (GOOD.replace("[1]", "[1, 2]"), "line 1: 2 hash_ids for 4 tokens, which are 1 blocks"),
        ('{"timestamp": 0, "turns": []}', "line 1: a session without turns"),
        (session(TURN.replace("}", ', "delay": -1}')), "line 1: `delay` is below 0"),
        (session(TURN.replace("}", ', "think": 1}')), "line 1: .*unknown field `think`"),
        (
            session(TURN, TURN.replace("[1]", "[]")),
            "line 1, turn 2: 0 hash_ids",
        ),
        (AZURE.replace("600", "many"), "line 2: expected TIMESTAMP,ContextTokens,GeneratedTokens"),
        (AZURE.replace(",3,0", ",3"), "line 3: expected"),
        (AZURE.replace(",3,0", ",-3,0"), "line 3: -3 tokens in"),
        (AZURE.replace("2023-11-16 18:15:49", "yesterday"), "line 4: expected"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        read(written(tmp_path, text))


JUNK = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([MOONCAKE, AZURE, SESSIONS]).flatmap(
        lambda text: st.tuples(st.integers(0, len(text)), st.integers(0, 30), st.binary(max_size=6)).map(
            lambda cut: text[: cut[0]].encode() + cut[2] + text[cut[0] + cut[1] :].encode()
        )
    ),
)


@given(JUNK)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_it_is_a_trace_or_refused_in_words(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "junk"
    path.write_bytes(data)
    try:
        requests = read(path).requests
    except TraceError as error:
        refusal = str(error)
    else:
        assert requests > 0
        return
    assert refusal.startswith(("junk", str(path)))


@pytest.mark.parametrize(
    "row", ["x" * 200_000 + ",1,1", '"2023,1,1', "2023-11-16,1\x00,1", "2023-11-16,1", f"2023-11-16,{'9' * 5000},1"]
)
def test_rows_that_libraries_stumble_over_are_refused_in_words_too(tmp_path: Path, row: str) -> None:
    with pytest.raises(TraceError, match=r"trace\.txt, line 2"):
        read(written(tmp_path, f"TIMESTAMP,ContextTokens,GeneratedTokens\n{row}\n"))


def test_a_file_that_cannot_be_read_or_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"none\.jsonl cannot be read: No such file"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "packed.gz").write_bytes(b"\x1f\x8b\x08\xff\xfe")
    with pytest.raises(TraceError, match=r"is not text .*is it compressed"):
        read(tmp_path / "packed.gz")
