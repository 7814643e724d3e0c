"""The journal: the services on disk, in one SQLite file. Blocking; belongs to one thread that is not the loop's.

Owns: the file, its schema and its version, and that a returned `commit` survives a `kill -9` and a power cut (WAL,
synchronous=FULL). Membership only: heartbeats are never written. May not live here: decisions, liveness, asyncio.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from enginehouse.registry.leases import Entry

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE service (name TEXT PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE meta (only INTEGER PRIMARY KEY CHECK (only = 1), revision INTEGER NOT NULL);
INSERT INTO meta VALUES (1, 0);
"""


class JournalError(Exception):
    """The file cannot be read or written. The message names it and says what to do."""


class Journal:
    """`path`: the file; "" keeps everything in memory, through the same code."""

    def __init__(self, path: str) -> None:
        self._path = path or ":memory:"
        self._connection: sqlite3.Connection | None = None

    def load(self) -> tuple[int, list[Entry]]:
        """The last revision and all entries. Creates the file if it is new."""
        try:
            connection = self._open()
            ((revision,),) = connection.execute("SELECT revision FROM meta").fetchall()
            rows = connection.execute("SELECT entry FROM service ORDER BY name").fetchall()
            return revision, [msgspec.json.decode(entry, type=Entry) for (entry,) in rows]
        except (sqlite3.Error, msgspec.DecodeError) as error:
            self.close()
            raise JournalError(self._explain(error)) from error

    def commit(self, changes: Iterable[tuple[str, Entry | None]], revision: int) -> None:
        """Write all changes or none; None removes. Returns when they are on the disk."""
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            for name, entry in changes:
                if entry is None:
                    connection.execute("DELETE FROM service WHERE name = ?", (name,))
                else:
                    text = msgspec.json.encode(entry).decode()
                    connection.execute("INSERT OR REPLACE INTO service VALUES (?, ?)", (name, text))
            connection.execute("UPDATE meta SET revision = ?", (revision,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._give_up()
            raise JournalError(self._explain(error)) from error

    def close(self) -> None:
        """Give the file back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            try:
                connection.close()
            except sqlite3.Error:
                pass  # nothing more can be done, and what was acknowledged is in the write-ahead log

    def _give_up(self) -> None:
        """After a failed commit: begin with a fresh connection next time, which recovers what is whole on disk."""
        if self._path != ":memory:":
            self.close()
        elif self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        # No waiting for a lock: only another registry could hold it, and two must not share a journal.
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=0)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version == 0:
            connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise JournalError(
                f"journal {self._path} has schema version {version}, this program writes {SCHEMA_VERSION}: "
                "use the program that wrote it, or another file"
            )

    def _explain(self, error: Exception) -> str:
        hint = ""
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            hint = ": another registry uses it; give this one a journal of its own"
        elif isinstance(error, msgspec.DecodeError) or type(error) is sqlite3.DatabaseError:
            hint = ": the file is damaged or no journal; move it away to start empty"
        return f"journal {self._path}: {error}{hint}"
