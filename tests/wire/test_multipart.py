"""The model in a multipart form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginehouse.core.outcome import Outcome
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.multipart import MAX_PARTS, read_model, rename_model

TYPE = b"multipart/form-data; boundary=frontier"


def part(name: str, value: bytes, filename: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename else ""
    head = f'--frontier\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
    return head.encode() + b"\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--frontier--\r\n"


FILE = part("file", bytes(range(256)) * 40 + b"\r\n--frontie\r\n", "a.wav")


def refusal(body: bytes, content_type: bytes = TYPE) -> Outcome:
    with pytest.raises(Unreadable) as refused:
        read_model(content_type, body)
    assert refused.value.message
    return refused.value.outcome


@pytest.mark.parametrize("body", [form(part("model", b"whisper"), FILE), form(FILE, part("model", b"whisper"))])
def test_the_model_is_found_before_and_behind_the_file(body: bytes) -> None:
    """Defect: A body that cannot be parsed (token-id prompts, multipart audio) goes to *any* model's service."""
    assert read_model(TYPE, body) == "whisper"


def test_a_form_may_name_no_model() -> None:
    assert read_model(TYPE, form(FILE)) is None
    assert read_model(TYPE, form(part("model", b"x", "model.txt"))) is None


def test_the_boundary_may_be_quoted_and_the_type_in_any_case() -> None:
    assert read_model(b'Multipart/Form-Data; charset=utf-8; boundary="frontier"', form(part("model", b"m"))) == "m"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--frontier",
        FILE,
        form(part("model", b"m"))[:-6],
        b"--other--\r\n",
        b"--frontier\r\nx: y\r\n--frontier--",
    ],
)
def test_what_is_no_complete_form_is_a_bad_request(body: bytes) -> None:
    assert refusal(body) is Outcome.BAD_REQUEST


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 5000,
    ],
)
def test_a_content_type_that_is_no_form_or_has_no_boundary_is_a_bad_request(content_type: bytes) -> None:
    assert refusal(form(part("model", b"m")), content_type) is Outcome.BAD_REQUEST


@pytest.mark.parametrize("value", [b"", b"x" * 600, b"\xff", b"x" * 10000])
def test_a_model_must_be_a_name(value: bytes) -> None:
    assert refusal(form(part("model", value))) is Outcome.BAD_MODEL


def test_a_model_given_twice_is_refused() -> None:
    assert refusal(form(part("model", b"a"), FILE, part("model", b"b"))) is Outcome.BAD_MODEL


def test_the_number_of_parts_is_bounded() -> None:
    assert refusal(form(*[part("x", b"1")] * (MAX_PARTS + 1))) is Outcome.BAD_REQUEST


def test_a_head_of_a_part_is_bounded() -> None:
    assert refusal(b"--frontier\r\n" + b"x: y\r\n" * 10000) is Outcome.BAD_REQUEST
    assert refusal(b"--frontier\r\nx: " + b"y" * 100000) is Outcome.BAD_REQUEST


def test_an_alias_changes_the_value_and_nothing_else() -> None:
    body = form(part("language", b"model"), part("model", b"alias"), FILE)
    assert rename_model(TYPE, body, "real/näme") == form(
        part("language", b"model"), part("model", "real/näme".encode()), FILE
    )
    assert rename_model(TYPE, form(FILE), "x") == form(FILE)


@given(st.binary(max_size=300))
def test_no_body_whatever_breaks_the_reader(body: bytes) -> None:
    for tried in (body, b"--frontier\r\n" + body, part("model", body), form(part("model", body))):
        try:
            found = read_model(TYPE, tried)
        except Unreadable as refused:
            found = refused.message
        assert found is None or found
