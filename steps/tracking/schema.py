"""The schema of MLflow's databases: whether it is there, of which MLflow; one maker at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import filelock
import mlflow

from steps.tracking.reachable import Trouble, postgres_connection
from steps.tracking.settings import redact

SchemaState = Literal["none", "current", "older", "newer"]

# Any number does that nobody else takes for something else: these are the letters of "candle".
_LOCK: Final = int.from_bytes(b"candle")
_LONGEST_MIGRATION: Final = 300  # seconds


def sqlite_file(uri: str) -> Path:
    """Return the file of a ``sqlite:///`` URI."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def schema_state(uri: str) -> SchemaState:
    """Return whose schema a SQLite or PostgreSQL database has.

    Parameters
    ----------
    uri : str
        ``sqlite:///…`` or ``postgresql://…``

    Returns
    -------
    {"none", "current", "older", "newer"}
        ``none``: MLflow was never there. ``newer``: a version that this MLflow does not know.
    """
    if uri.startswith("sqlite:///"):
        if not sqlite_file(uri).exists():
            return "none"
        with closing(sqlite3.connect(sqlite_file(uri), timeout=60)) as database:
            query = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
            if not database.execute(query).fetchone():
                return "none"
            return _compare(database.execute("SELECT version_num FROM alembic_version").fetchone())
    with postgres_connection(uri) as database:
        if not database.execute("SELECT to_regclass('alembic_version')").fetchone()[0]:
            return "none"
        return _compare(database.execute("SELECT version_num FROM alembic_version").fetchone())


def schema_trouble(uri: str) -> Trouble | None:
    """Return what is wrong with a database's schema; None where it fits, or is not there yet."""
    state = schema_state(uri)
    if state == "older" and not _was_used(uri):
        return Trouble(
            "a database schema that is not whole, for its making was interrupted",
            f"delete {sqlite_file(uri)}: nothing was ever recorded in it",
            away=False,
        )
    if state == "older":
        password = ", with the password in it" if redact(uri) != uri else ""
        return Trouble(
            "an out-of-date database schema, made by an older MLflow than this "
            f"{mlflow.__version__}",
            f"take a backup, then run `mlflow db upgrade {redact(uri)}`{password}",
            away=False,
        )
    if state == "newer":
        return Trouble(
            f"the database schema of a newer MLflow than this {mlflow.__version__}",
            "use that version, or set MLFLOW_TRACKING_URI to another store",
            away=False,
        )
    return None


def _was_used(uri: str) -> bool:
    """Whether MLflow has ever opened a database: then there is an experiment in it, the default."""
    if not uri.startswith("sqlite:///"):
        return True  # PostgreSQL makes a schema wholly or not at all
    with closing(sqlite3.connect(sqlite_file(uri), timeout=60)) as database:
        return bool(database.execute("SELECT 1 FROM experiments").fetchone())


def _compare(row: tuple[str] | None) -> SchemaState:
    if row is None:  # MLflow was interrupted right at its start, and goes on from there
        return "none"
    from alembic.util import CommandError  # a client of a server needs none of alembic

    if row[0] == _versions().get_current_head():
        return "current"
    try:
        _versions().get_revision(row[0])
    except CommandError:
        return "newer"
    return "older"


@cache
def _versions() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def make_schema(uri: str) -> None:
    """Make MLflow's tables in a SQLite file that has none, all at once.

    MLflow makes them in many steps, for seconds: where it is stopped in between, it refuses what
    is there from then on.
    """
    with closing(sqlite3.connect(sqlite_file(uri), timeout=60)) as database:
        if database.execute("SELECT 1 FROM sqlite_master").fetchone():
            return  # MLflow's, whole or such that it can go on from them; or somebody else's
        from mlflow.store.db import utils

        engine = utils.create_sqlalchemy_engine("sqlite://")
        try:
            utils._initialize_tables(engine)
            with closing(engine.raw_connection()) as made:
                made.driver_connection.backup(database)
        finally:
            engine.dispose()


@contextmanager
def turn_to_open(uri: str) -> Iterator[None]:
    """Wait until nobody else makes the schema of a database, and keep others from it if it is none.

    MLflow's own migrations fail when several processes start on a fresh database at once, and leave
    it damaged.
    """
    if uri.startswith("sqlite:///"):
        with filelock.FileLock(f"{sqlite_file(uri)}.lock"):
            yield
        return
    if not uri.startswith("postgresql"):
        yield
        return
    with postgres_connection(uri) as database, database.transaction():
        # Locks of a transaction: a pooler such as PgBouncer gives a session to somebody else.
        database.execute(f"SET LOCAL statement_timeout = '{_LONGEST_MIGRATION}s'")
        database.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        database.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_LOCK,))
        is_there = database.execute("SELECT to_regclass('alembic_version')").fetchone()[0]
    if is_there:
        yield
        return
    with postgres_connection(uri) as database, database.transaction():
        database.execute(f"SET LOCAL statement_timeout = '{_LONGEST_MIGRATION}s'")
        database.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        database.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        yield
