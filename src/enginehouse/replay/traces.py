"""What is asked when: the words for a load, and the readers of the formats in which loads are recorded.

Owns `Turn`, `Session`, `Trace`, and the formats of Mooncake, of Azure and our own (docs/how-to/replay.md). May not live
here: the text that blocks stand for (`text`), made-up loads (`workloads`), what is done to the times (`schedule`).

All formats become one: sessions of turns, each a number of tokens made of blocks. Equal numbers of blocks are equal
text, so whoever begins with the same blocks has the same prefix. A request without a history is a session of one turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

BLOCK_TOKENS: Final = 512
"""Tokens that a block stands for in Mooncake's traces (FAST25-release/traces of kvcache-ai/Mooncake)."""
LONGEST: Final = 1 << 21
"""Tokens of a prompt or an answer, at most: beyond it a row is taken for damaged."""


class TraceError(Exception):
    """A trace that cannot be played: the file, the line, what is wrong and what to do."""


class Turn(NamedTuple):
    """One request. `tokens` of new text, made of `blocks` (the last may be partly used), ask for `answer` tokens.

    What was said before in the session, answers included, goes before the new text. `delay`: seconds between the end
    of the answer before and this turn.
    """

    tokens: int
    answer: int
    blocks: tuple[int, ...]
    delay: float = 0.0


class Session(NamedTuple):
    """Turns that follow each other, the first at `at` seconds from the beginning of the trace."""

    at: float
    turns: tuple[Turn, ...]


class Trace(NamedTuple):
    """Sessions in the order of their times; the first is at 0."""

    name: str
    sessions: list[Session]
    block_tokens: int = BLOCK_TOKENS

    @property
    def requests(self) -> int:
        """How many requests it is."""
        return sum(len(session.turns) for session in self.sessions)

    def first(self, requests: int) -> Trace:
        """The sessions that begin first, as many as make up that number of requests; the last may lose turns."""
        kept: list[Session] = []
        for session in self.sessions:
            if requests <= 0:
                break
            kept.append(session._replace(turns=session.turns[:requests]))
            requests -= len(session.turns)
        return self._replace(sessions=kept)


class _Row(msgspec.Struct):
    """A line of Mooncake's: `timestamp` in milliseconds, lengths in tokens."""

    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int]


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    """A turn of ours: `delay` in milliseconds."""

    input_length: int
    output_length: int
    hash_ids: list[int]
    delay: float = 0.0


class _Session(msgspec.Struct, forbid_unknown_fields=True):
    """A line of ours: `timestamp` in milliseconds."""

    timestamp: float
    turns: list[_Turn]


Line = TypeVar("Line", _Row, _Session)


def read(path: Path, block_tokens: int = BLOCK_TOKENS) -> Trace:
    """The trace of a file in any of the formats, told by how it begins. Raises `TraceError`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            begin = file.readline()
            lines = itertools.chain([begin], file)
            if begin.lstrip().startswith("{"):
                kind = sessions if '"turns"' in begin else mooncake
                found = list(kind(lines, path.name, block_tokens))
            elif "ContextTokens" in begin:
                found = list(azure(lines, path.name, block_tokens))
            else:
                raise TraceError(
                    f"{path.name}, line 1: this is no trace. It has to be JSON with `hash_ids` (Mooncake) or `turns` "
                    f"(sessions) on each line, or CSV with a header TIMESTAMP,ContextTokens,GeneratedTokens (Azure)"
                )
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TraceError(f"{path} is not text (byte {error.start} of a line): is it compressed?") from None
    return arranged(path.stem, found, block_tokens)


def arranged(name: str, found: Iterable[Session], block_tokens: int = BLOCK_TOKENS) -> Trace:
    """A trace of sessions in any order. Raises `TraceError` where there is none."""
    ordered = sorted(found, key=lambda session: session.at)
    if not ordered:
        raise TraceError(f"{name} holds no request")
    start = ordered[0].at
    return Trace(name, [session._replace(at=session.at - start) for session in ordered], block_tokens)


def mooncake(lines: Iterable[str], name: str, block_tokens: int) -> Iterator[Session]:
    """One request a line, its prefix told by the numbers of its blocks."""
    for where, row in _decoded(lines, name, _Row):
        yield Session(row.timestamp / 1000, (_turn(row, block_tokens, where),))


def sessions(lines: Iterable[str], name: str, block_tokens: int) -> Iterator[Session]:
    """One session a line."""
    for where, row in _decoded(lines, name, _Session):
        if not row.turns:
            raise TraceError(f"{where}: a session without turns; take the line out")
        turns = tuple(
            _turn(turn, block_tokens, f"{where}, turn {at}")._replace(delay=turn.delay / 1000)
            for at, turn in enumerate(row.turns, 1)
        )
        if any(turn.delay < 0 for turn in turns):
            raise TraceError(f"{where}: `delay` is below 0; it is milliseconds after the answer before")
        yield Session(row.timestamp / 1000, turns)


def azure(lines: Iterable[str], name: str, block_tokens: int) -> Iterator[Session]:
    """One request a row, nothing known of its text: every block is its own, so that nothing is shared."""
    numbered = enumerate(lines, 1)
    columns = next(numbered)[1].strip().split(",")
    next_block = 0
    for number, line in numbered:
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        row = dict(zip(columns, line.strip().split(","), strict=False))
        try:
            moment = datetime.fromisoformat(row["TIMESTAMP"].strip())
            tokens, answer = int(row["ContextTokens"]), int(row["GeneratedTokens"])
        except (KeyError, ValueError):
            raise TraceError(
                f"{where}: expected TIMESTAMP,ContextTokens,GeneratedTokens as in "
                f"`2023-11-16 18:15:46.6805900,374,44`; mend the row or take it out"
            ) from None
        tokens, answer = _lengths(tokens, answer, where)
        count = -(-tokens // block_tokens)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        yield Session(at, (Turn(tokens, answer, tuple(range(next_block, next_block + count))),))
        next_block += count


def _decoded(lines: Iterable[str], name: str, kind: type[Line]) -> Iterator[tuple[str, Line]]:
    """Every line that is not empty, with the words for where it stands."""
    decode = msgspec.json.Decoder(kind).decode
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{name}, line {number}"
            try:
                yield where, decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                raise TraceError(f"{where}: {error}; mend the line or take it out") from None


def _turn(row: _Row | _Turn, block_tokens: int, where: str) -> Turn:
    """The turn of a row. Raises `TraceError` where its blocks cannot be those of its length."""
    tokens, answer = _lengths(row.input_length, row.output_length, where)
    needed = -(-tokens // block_tokens)
    if len(row.hash_ids) != needed:
        raise TraceError(
            f"{where}: {len(row.hash_ids)} hash_ids for {tokens} tokens, which are {needed} blocks of {block_tokens}; "
            f"for blocks of another size give --block-tokens"
        )
    return Turn(tokens, answer, tuple(row.hash_ids))


def _lengths(tokens: int, answer: int, where: str) -> tuple[int, int]:
    """Both at least 1: nothing can be asked with nothing, nor for nothing."""
    if not (0 <= tokens <= LONGEST and 0 <= answer <= LONGEST):
        raise TraceError(
            f"{where}: {tokens} tokens in, {answer} out: neither may be below 0 or above {LONGEST}; take the line out"
        )
    return max(tokens, 1), max(answer, 1)
