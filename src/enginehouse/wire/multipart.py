"""The model in a `multipart/form-data` body (audio, image edits), found without copying the files in it.

Owns `read_model` and `rename_model`. The parser (python-multipart) reports where things are; only headers and the
one field are ever sliced out. May not live here: JSON bodies (`peek`).
"""

from __future__ import annotations

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from enginehouse.core.outcome import Outcome
from enginehouse.core.units import MAX_MODEL_ID
from enginehouse.wire.errors import Unreadable
from enginehouse.wire.peek import checked_model

MAX_PARTS = 1000


class _Finder:
    """Callbacks of the parser: notes where the value of the field `model` lies."""

    def __init__(self) -> None:
        self.spans: list[tuple[int, int]] = []
        self.ended = False
        self._parts = 0
        self._name = b""
        self._value = b""
        self._wanted = False
        self._span = (0, 0)

    def part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormParserError(f"more than {MAX_PARTS} parts")
        self._wanted = False
        self._span = (0, 0)

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._name = data[start:end].lower()

    def header_value(self, data: bytes, start: int, end: int) -> None:
        if self._name == b"content-disposition":
            _, options = parse_options_header(data[start:end])
            self._wanted = options.get(b"name") == b"model" and b"filename" not in options

    def part_data(self, _data: bytes, start: int, end: int) -> None:
        self._span = (self._span[0] or start, end)

    def part_end(self) -> None:
        if self._wanted:
            self.spans.append(self._span)

    def end(self) -> None:
        self.ended = True


def read_model(content_type: bytes, body: bytes) -> str | None:
    """The form's field `model`, or None where it has none.

    Raises `Unreadable`: BAD_REQUEST for what is no complete multipart body, BAD_MODEL for a model given twice, empty,
    too long or not in UTF-8.
    """
    span = _span(content_type, body)
    if span is None:
        return None
    try:
        return checked_model(body[span[0] : min(span[1], span[0] + 4 * MAX_MODEL_ID + 1)].decode())
    except UnicodeDecodeError:
        raise Unreadable(Outcome.BAD_MODEL, "`model` must be text in UTF-8.", "model") from None


def rename_model(content_type: bytes, body: bytes, new: str) -> bytes:
    """The same body with another model; nothing else changes."""
    span = _span(content_type, body)
    return body if span is None else body[: span[0]] + new.encode() + body[span[1] :]


def _span(content_type: bytes, body: bytes) -> tuple[int, int] | None:
    """Start and end of the model's value in `body`."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise Unreadable(
            Outcome.BAD_REQUEST, "Send a form: Content-Type must be multipart/form-data with a boundary.", None
        )
    finder = _Finder()
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": finder.part_begin,
                "on_header_field": finder.header_field,
                "on_header_value": finder.header_value,
                "on_part_data": finder.part_data,
                "on_part_end": finder.part_end,
                "on_end": finder.end,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise Unreadable(Outcome.BAD_REQUEST, f"The multipart form could not be parsed ({error}).", None) from None
    if not finder.ended:
        raise Unreadable(Outcome.BAD_REQUEST, "The multipart form does not end: its last boundary is missing.", None)
    if len(finder.spans) > 1:
        raise Unreadable(Outcome.BAD_MODEL, "The form gives `model` more than once; give it once.", "model")
    return finder.spans[0] if finder.spans else None
