"""Lines of the access log: their fields, and that nothing a client sends can make them anything else."""

from __future__ import annotations

import json
import re
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome, termination
from enginehouse.wire import access_line
from enginehouse.wire.access_line import (
    MAX_FORMS,
    MAX_LINE,
    MAX_NAME,
    MAX_PATH,
    Entry,
    Forms,
    JsonLines,
    Lines,
    Record,
    TextLines,
    Times,
    key_hash,
    path_of,
    text_name,
)
from enginehouse.wire.usage import Usage

OFFSET = 1_700_000_000.0
ANSWERED = Record(
    begun=1000.0,
    ended=1000.81239,
    first_byte=1000.09518,
    queued=0.0125,
    id=b"req-0a1b2c3d4e5f-1",
    client="192.0.2.7",
    method=b"POST",
    target=b"/v1/chat/completions",
    model="Qwen/Qwen3-8B",
    service="engine-1",
    status=200,
    outcome=Outcome.ANSWERED,
    attempts=1,
    bytes_in=1204,
    bytes_out=35210,
    stream=True,
    usage=Usage(2500, 320, 2400),
    warm=0.9567,
    reason="prefix",
    key=b"Bearer sk-secret",
    overhead=0.0001,
    own=False,
    prompt=4096,
)
#: What clients might put into a name to break a line, a parser or a terminal.
HOSTILE = [
    'a","status":500,"x":"',
    "a\nb",
    "a\r\n2026-11-23T00:00:00.000Z 200 forged",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "\x7f\x00\x08",
    "\u2028\u2029\u202e\u200b\ufeff",
    "\ud800 lone surrogate",
    "back\\slash \\u0041",
    "ünïcode 模型 😀",
    "",
    "-",
    "a b",
]


def json_line(**changed: Any) -> dict[str, Any]:
    line = JsonLines().encode([ANSWERED._replace(**changed)], OFFSET)
    assert line.endswith(b"\n")
    return dict(json.loads(line))


def text_line(**changed: Any) -> str:
    return TextLines().encode([ANSWERED._replace(**changed)], OFFSET).decode()


@pytest.fixture(params=[JsonLines, TextLines])
def lines(request: pytest.FixtureRequest) -> Lines:
    made: Lines = request.param()
    return made


# fields


def test_a_json_line_has_these_fields_in_this_order_and_no_others() -> None:
    """So no content, no key but a hash of it, no query and no header but the id."""
    assert list(json_line().items()) == [
        ("time", "2023-11-14T22:30:00.812Z"),
        ("id", "req-0a1b2c3d4e5f-1"),
        ("client", "192.0.2.7"),
        ("method", "POST"),
        ("path", "/v1/chat/completions"),
        ("model", "Qwen/Qwen3-8B"),
        ("service", "engine-1"),
        ("status", 200),
        ("outcome", "answered"),
        ("termination", "--"),
        ("attempts", 1),
        ("queue_ms", 12.5),
        ("first_byte_ms", 95.1),
        ("duration_ms", 812.3),
        ("bytes_in", 1204),
        ("bytes_out", 35210),
        ("stream", True),
        ("tokens_in", 2500),
        ("tokens_out", 320),
        ("tokens_cached", 2400),
        ("warm", 0.95),
        ("key", "d39fd0d9"),
    ]


def test_the_page_about_the_log_explains_every_field_in_order() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "access-log.md"
    assert re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE) == list(json_line())


def test_a_text_line_begins_with_what_is_looked_at_first() -> None:
    assert text_line() == (
        "2023-11-14T22:30:00.812Z 200     812.4ms POST /v1/chat/completions model=Qwen/Qwen3-8B service=engine-1"
        " answered -- attempts=1 queue=12.5ms first=95.2ms in=1204 out=35210 stream"
        " tokens=2500+320 cached=2400 warm=95% client=192.0.2.7 key=d39fd0d9 id=req-0a1b2c3d4e5f-1\n"
    )


def test_what_there_was_none_of_is_null_or_empty_in_json_and_a_dash_in_text() -> None:
    nothing: dict[str, Any] = {
        "first_byte": 0.0, "model": "", "service": "", "status": 0, "stream": False, "usage": None, "warm": -1.0,
        "key": b"",
    }  # fmt: skip
    line = json_line(**nothing)
    assert (line["first_byte_ms"], line["model"], line["service"], line["status"], line["stream"]) == (
        None, "", "", 0, False,
    )  # fmt: skip
    assert [line[name] for name in ("tokens_in", "tokens_out", "tokens_cached", "warm", "key")] == [None] * 5
    assert " 000 " in text_line(**nothing)
    assert " model=- service=- " in text_line(**nothing)
    assert " first=- " in text_line(**nothing)
    for field in (" stream", "tokens=", "cached=", "warm=", "key="):
        assert field not in text_line(**nothing)
    assert " tokens=3+1 warm=0% " in text_line(usage=Usage(3, 1, None), warm=0.0)


def test_one_key_has_the_same_eight_digits_whichever_header_it_came_in_and_none_of_it_is_in_a_line() -> None:
    ways = [b"Bearer sk-secret", b"bearer  sk-secret ", b"sk-secret"]
    assert {json_line(key=way)["key"] for way in ways} == {key_hash("sk-secret")} == {"d39fd0d9"}
    assert json_line(key=b"Bearer sk-secreu")["key"] != "d39fd0d9"
    assert "secret" not in json.dumps(json_line()) + text_line()


@pytest.mark.parametrize("outcome", Outcome)
def test_how_a_request_ended_is_told_by_the_table_of_outcomes(outcome: Outcome) -> None:
    line = json_line(outcome=outcome)
    assert (line["outcome"], line["termination"]) == (outcome.value, termination(outcome, 1, True))
    assert f" {outcome.value} {termination(outcome, 1, True)} " in text_line(outcome=outcome)


def test_several_requests_are_several_lines_in_order(lines: Lines) -> None:
    three = [ANSWERED._replace(id=b"id-%d" % number) for number in range(3)]
    assert re.findall(rb"id-\d", lines.encode(three, OFFSET)) == [b"id-0", b"id-1", b"id-2"]
    assert lines.encode(three, OFFSET).count(b"\n") == 3
    assert lines.encode([], OFFSET) == b""


def test_the_plain_tuple_of_the_hot_path_has_the_fields_of_a_record() -> None:
    assert get_args(Entry) == tuple(get_type_hints(Record).values())
    plain: Entry = (*ANSWERED,)
    assert JsonLines().encode([plain], OFFSET) == JsonLines().encode([ANSWERED], OFFSET)


def test_dropped_lines_are_counted_in_a_line_of_their_own() -> None:
    line = JsonLines().dropped(12, OFFSET)
    assert json.loads(line) == {"time": "2023-11-14T22:13:20.000Z", "dropped": 12}
    assert TextLines().dropped(12, OFFSET).startswith(b"2023-11-14T22:13:20.000Z dropped 12 lines")
    for text in (line, TextLines().dropped(12, OFFSET)):
        assert text.endswith(b"\n")
        assert text.count(b"\n") == 1


# times


@given(st.integers(0, 4_102_444_800_000))
def test_times_are_rfc_3339_in_utc_with_milliseconds(ms: int) -> None:
    text = Times()[ms]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    read = datetime.fromisoformat(text)
    assert read.tzinfo == UTC
    assert round(read.timestamp() * 1000) == ms


def test_times_of_one_batch_follow_the_requests_and_not_each_other(lines: Lines) -> None:
    ends = [1000.0, 1000.0009, 999.9, 1061.5]
    text = lines.encode([ANSWERED._replace(ended=end, begun=end) for end in ends], OFFSET).decode()
    assert re.findall(r"T([\d:.]+)Z", text) == ["22:30:00.000", "22:30:00.000", "22:29:59.900", "22:31:01.500"]


# names that clients send


@pytest.mark.parametrize("name", HOSTILE)
def test_a_json_line_gives_back_exactly_the_name_that_was_sent(name: str) -> None:
    line = json_line(model=name, client=name, service=name)
    assert line["model"] == line["client"] == line["service"] == name
    assert line["status"] == 200


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_ends_a_line_or_reaches_a_terminal_as_anything_but_printable_ascii(lines: Lines, name: str) -> None:
    raw = name.encode("utf-8", "surrogatepass")
    id = name.encode("ascii", "backslashreplace").replace(b"\x7f", b"")  # an id is printable, and escaped anyhow
    hostile = ANSWERED._replace(model=name, client=name, service=name, method=raw, target=b"/" + raw, id=id)
    line = lines.encode([hostile], OFFSET)
    assert re.fullmatch(rb"[ -~]+\n", line), line
    if isinstance(lines, JsonLines):
        assert json.loads(line)["id"] == id.decode()


def test_no_name_forges_a_field_of_a_text_line() -> None:
    line = text_line(model="x status=500 service=other", id=b"a b", service='"')
    assert ' model="x status=500 service=other" service="\\"" ' in line
    assert line.endswith(' id="a b"\n')
    assert text_name("-") == '"-"', "a dash stands for nothing"


@given(st.text(), st.binary(), st.text(string.printable[:-5], max_size=128))
def test_whatever_is_sent_a_line_is_one_line_and_parses(model: str, target: bytes, id: str) -> None:
    entry = ANSWERED._replace(model=model, target=target, id=id.encode())
    line = JsonLines().encode([entry], OFFSET)
    assert re.fullmatch(rb"[ -~]+\n", line)
    read = json.loads(line)
    assert read["id"] == id
    assert read["model"] == model if len(model) <= MAX_NAME else read["model"][:125] == model[:125]
    assert re.fullmatch(rb"[ -~]+\n", TextLines().encode([entry], OFFSET))


# lengths


def test_long_names_and_paths_are_cut_and_say_so() -> None:
    line = json_line(model="m" * 1000, service="s" * 128, target=b"/" + b"p" * 70000)
    assert line["model"] == "m" * (MAX_NAME - 3) + "..."
    assert line["service"] == "s" * 128
    assert line["path"] == "/" + "p" * (MAX_PATH - 4) + "..."


def test_no_line_is_longer_than_what_a_pipe_takes_at_once(lines: Lines) -> None:
    """Every field at its longest, every character at its longest escape (an emoji is two of six bytes)."""
    longest = max(Outcome, key=lambda outcome: len(outcome.value))
    entry = ANSWERED._replace(
        id=b'"' * 128, client="😀" * 64, method=b"\xff" * 32, target=b"/" + b"\xff" * 70000, model="😀" * 1000,
        service="s" * 128, outcome=longest, attempts=5, bytes_in=1 << 62, bytes_out=1 << 62, begun=-1e9, queued=1e9,
        usage=Usage(1 << 40, 1 << 40, 1 << 40),
    )  # fmt: skip
    assert len(lines.encode([entry], OFFSET)) <= MAX_LINE


# paths


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1/models/org%2Fm", "/v1/models/org%2Fm"),
        (b"/v1/x?api_key=secret", "/v1/x"),
        (b"/v1/x#secret", "/v1/x"),
        (b"/?secret?/path", "/"),
        (b"http://user:secret@house/v1/x?y", "/v1/x"),
        (b"HTTPS://secret/v1/x", "/v1/x"),
        (b"http://secret", ""),
        (b"secret.example:443", ""),
        (b"secret", ""),
        (b"", ""),
        (b"*", "*"),
        (b"/a b\"c\\d\x7f\xff\x00", "/a%20b%22c%5Cd%7F%FF%00"),
        ("/ünï".encode(), "/%C3%BCn%C3%AF"),
    ],
)  # fmt: skip
def test_of_a_target_only_the_path_is_kept_and_it_is_made_printable(target: bytes, path: str) -> None:
    assert path_of(target) == path
    assert json_line(target=target)["path"] == path
    assert b"secret" not in TextLines().encode([ANSWERED._replace(target=target)], OFFSET)


# what is remembered


def test_forms_of_names_are_worked_out_once_and_only_so_many_are_kept() -> None:
    asked: list[str | bytes] = []

    def form(name: str | bytes) -> int:
        asked.append(name)
        return len(asked)

    forms = Forms(form)
    assert forms["a"] == forms["a"] == 1
    for number in range(3 * MAX_FORMS):
        forms[str(number)]
        assert len(forms) <= MAX_FORMS
    assert len(asked) == 3 * MAX_FORMS + 1


def test_targets_with_a_query_and_names_of_any_length_are_not_kept() -> None:
    forms = Forms(len)
    forms[b"/v1/x?key=secret"]
    forms["x" * (MAX_PATH + 1)]
    assert not forms


def test_times_are_kept_within_a_bound() -> None:
    times = Times()
    for ms in range(3 * access_line.MAX_FORMS):
        times[ms]
    assert len(times) <= access_line.MAX_FORMS
