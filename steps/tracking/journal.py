"""What a run has told and MLflow does not hold yet: one SQLite file per run, which outlives it.

A message is written here before anybody relies on it, and leaves when the store has it. Whoever
delivers it a second time, because nobody lived to see the first time succeed, changes nothing: see
:mod:`steps.tracking.messages`.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

from platformdirs import user_state_path

from steps.tracking.messages import Message
from steps.tracking.settings import load_settings

_SUFFIX: Final = ".journal"
_ATTEMPTS: Final = 20
_BEING_MADE: Final = 60.0  # seconds that an empty file may be somebody's who is about to fill it
_SCHEMA: Final = """
    CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        content TEXT NOT NULL,
        tried INTEGER NOT NULL
    );
    CREATE TABLE kept (promised TEXT PRIMARY KEY, actual TEXT NOT NULL);
"""

_log = logging.getLogger(__name__)


class JournalInUseError(RuntimeError):
    """The process that writes a journal is alive."""


class JournalError(RuntimeError):
    """A journal cannot be read or written."""


def journal_folder() -> Path:
    """Return where journals are: ``CANDLEWICK_STATE``, or where this user's programs keep state."""
    return (load_settings().CANDLEWICK_STATE or user_state_path("candlewick")) / "journal"


@dataclass(frozen=True)
class Waiting:
    """A message in a journal: its place, and whether the store may have it already."""

    number: int
    message: Message
    tried: bool


class Journal:
    """The messages of one run that wait for the store, in order.

    Parameters
    ----------
    run_id : str
    store : str
        The run's store, for whoever delivers later. Without passwords.
    path : Path, optional
        Default: a new file in :func:`journal_folder`, or, where none can be made, memory alone.

    Raises
    ------
    JournalInUseError
        If another process has it open, or is about to make it.
    JournalError
        If the file is no journal, or is damaged.
    """

    def __init__(self, run_id: str, store: str, path: Path | None = None) -> None:
        self.run_id = run_id
        self.path: Path | None = path
        if path is not None:
            try:
                self._open(f"{path.absolute().as_uri()}?mode=rw")
            except sqlite3.Error as error:
                raise JournalError(f"{path}: {error}") from error
            return
        for _ in range(_ATTEMPTS):
            self.path = _new_path(run_id)
            try:
                self._make(store)
            except JournalInUseError:
                continue  # somebody who looks for journals was in between: another name
            except sqlite3.Error as error:
                _warn_of_memory(journal_folder(), str(error))
                break
            else:
                return
        self.path = None
        self._make(store)

    def _make(self, store: str) -> None:
        self._store = store
        self._connect(self.path.absolute().as_uri() if self.path else ":memory:")
        with self._closing():
            self._db.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, _SCHEMA.split(";")):
                self._db.execute(statement)
            about = {"run_id": self.run_id, "store": store}
            self._db.executemany("INSERT INTO about VALUES (?, ?)", about.items())
            self._db.execute("COMMIT")

    def _open(self, uri: str) -> None:
        self._connect(uri)
        with self._closing():
            if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                if self.path and time.time() - self.path.stat().st_mtime > _BEING_MADE:
                    remove(self.path)  # its process died before it wrote anything
                raise JournalInUseError(f"{self.path} is being made")
            found = self._db.execute("PRAGMA quick_check").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
            self._store = str(
                self._db.execute("SELECT value FROM about WHERE name = 'store'").fetchone()[0]
            )

    def _connect(self, uri: str) -> None:
        # Whoever has the file open, has it alone, and the lock ends with the process.
        self._db = sqlite3.connect(
            uri, timeout=0, isolation_level=None, check_same_thread=False, uri=True
        )
        with self._closing():
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            # Without a sync per message, which a killed process does not need; see `harden`.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _closing(self) -> Iterator[None]:
        """Close the file where something goes wrong."""
        try:
            yield
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise JournalInUseError(f"{self.path} is being written") from error
            raise

    @classmethod
    def of(cls, path: Path) -> Self:
        """Open a journal that somebody left, to deliver it.

        Raises
        ------
        JournalInUseError
            If that somebody is alive.
        JournalError
            If the file is no journal.
        """
        return cls(path.name.partition(".")[0], "", path)

    @property
    def store(self) -> str:
        """The run's store, without passwords."""
        return self._store

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return self._db.execute("SELECT 1 FROM messages LIMIT 1").fetchone() is None

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM messages").fetchone()[0])

    def append(self, message: Message, *, tried: bool = False) -> None:
        """Write a message, with copies of its files, behind the others.

        Parameters
        ----------
        message : Message
        tried : bool
            The store may have it already: sending it did not come to a known end.

        Raises
        ------
        JournalError
            If it cannot be written.
        """
        try:
            number = self._next_number()
            if message.files is not None:
                self._keep(message.files, number)
            self._db.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?)",
                (number, message.kind, json.dumps(message.content), tried),
            )
        except (sqlite3.Error, OSError) as error:
            raise JournalError(f"the journal {self.path} cannot be written: {error}") from error

    def waiting(self, limit: int) -> Iterator[Waiting]:
        """Yield messages, the oldest first."""
        query = "SELECT number, kind, content, tried FROM messages ORDER BY number LIMIT ?"
        for number, kind, content, tried in self._db.execute(query, (limit,)).fetchall():
            folder = self._folder(number)
            files = folder if folder is not None and folder.exists() else None
            yield Waiting(number, Message(kind, json.loads(content), files), bool(tried))

    def trying(self, numbers: Sequence[int]) -> None:
        """Note that messages in a row are about to be sent: now the store may have them."""
        self._change("UPDATE messages SET tried = 1", numbers)

    def delivered(self, numbers: Sequence[int]) -> None:
        """Forget messages in a row that the store has."""
        self._change("DELETE FROM messages", numbers)
        for number in numbers:
            folder = self._folder(number)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _change(self, statement: str, numbers: Sequence[int]) -> None:
        """Change messages that follow one another: in one statement, so all of them or none."""
        if numbers:
            where = " WHERE number BETWEEN ? AND ?"
            self._db.execute(statement + where, (numbers[0], numbers[-1]))

    def keep_promise(self, promised: str, actual: str) -> None:
        """Note what came to be of something that was named before it existed."""
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (promised, actual))

    def kept_promises(self) -> dict[str, str]:
        """Return what was promised, and what came of it."""
        return dict(self._db.execute("SELECT promised, actual FROM kept").fetchall())

    def harden(self) -> None:
        """From now on let messages survive a power cut, too: nobody else has them for a while."""
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file, and remove it where everything was delivered."""
        empty = False
        try:
            empty = self.is_empty
        finally:
            self._db.close()
        if empty and self.path is not None:
            remove(self.path)

    def _next_number(self) -> int:
        last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'messages'")
        return int((last.fetchone() or (0,))[0]) + 1

    def _folder(self, number: int) -> Path | None:
        return self.path and _files_of(self.path) / str(number)

    def _keep(self, files: Path, number: int) -> None:
        folder = self._folder(number)
        if folder is None:
            raise OSError("it is held in memory, and files do not fit in")
        shutil.rmtree(folder, ignore_errors=True)  # of a process that died on the way to the INSERT
        if files.is_dir():
            shutil.copytree(files, folder)
        else:
            folder.mkdir(parents=True)
            shutil.copy(files, folder)
        for file in (folder, *folder.rglob("*")):
            with closing(_Descriptor(file)) as descriptor:
                os.fsync(descriptor.number)


class _Descriptor:
    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def close(self) -> None:
        os.close(self.number)


def _files_of(path: Path) -> Path:
    return path.with_suffix(".files")


def remove(path: Path) -> None:
    """Remove a journal and the files it keeps."""
    shutil.rmtree(_files_of(path), ignore_errors=True)
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink()


def _new_path(run_id: str) -> Path | None:
    folder = journal_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _warn_of_memory(folder, str(error.strerror))
        return None
    return folder / f"{run_id}.{uuid4().hex[:8]}{_SUFFIX}"  # a run may go on in another process


@cache  # once
def _warn_of_memory(folder: Path, reason: str) -> None:
    _log.warning(
        "no journal can be kept in %s (%s): what the store does not take at once would be lost "
        "with this process; CANDLEWICK_STATE names another folder",
        folder,
        reason,
    )


@dataclass(frozen=True)
class Pending:
    """A journal that has not been delivered.

    Attributes
    ----------
    run_id : str
    path : Path
    store : str
        Where it belongs, without passwords; empty where that cannot be read.
    entries : int
        Messages that wait.
    live : bool
        Its process is alive, and delivers by itself.
    """

    run_id: str
    path: Path
    store: str
    entries: int
    live: bool


def pending() -> list[Pending]:
    """Return the journals on this machine that wait to be delivered, the oldest first."""
    found = []
    for path in left_behind():
        run_id = path.name.partition(".")[0]
        try:
            journal = Journal.of(path)
        except JournalInUseError:
            found.append(Pending(run_id, path, "", 0, live=True))
            continue
        except JournalError:
            found.append(Pending(run_id, path, "", 0, live=False))
            continue
        store, entries = journal.store, len(journal)
        journal.close()
        if entries:
            found.append(Pending(run_id, path, store, entries, live=False))
    return found


def left_behind() -> list[Path]:
    """Return the files of all journals there are, the oldest first."""
    found = []
    with suppress(OSError):  # no folder yet
        for path in journal_folder().glob(f"*{_SUFFIX}"):
            with suppress(OSError):  # one that has just been delivered
                found.append((path.stat().st_mtime, path.name, path))
    return [path for _, _, path in sorted(found)]


def runs_that_wait() -> set[str]:
    """Return the IDs of the runs that have a journal on this machine."""
    return {path.name.partition(".")[0] for path in left_behind()}
