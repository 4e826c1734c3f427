"""MLflow's tables from one database into another, row by row, and the proof that they are equal.

Every database of one MLflow version has the same tables, so they can be copied without knowing what
they mean. What differs between databases is what a column takes: SQLite keeps any text in a column
for 250 characters, and an integer of any size where PostgreSQL has four bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from mlflow.store.db.utils import create_sqlalchemy_engine
from sqlalchemy import Column, Connection, Engine, Table

from steps.tracking.stores import TrackingError, first_line

Row = dict[str, Any]
_BATCH: Final = 1000  # rows
_REVISIONS: Final = "alembic_version"
_BORN_WITH: Final = {"experiments": ("experiment_id", 0), "workspaces": ("name", "default")}
"""The row that an empty database has, by its table."""
_LOCK_PATIENCE: Final = "10s"
_LOCK_NOT_AVAILABLE: Final = "55P03"


class Database:
    """One of MLflow's databases.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tables: dict[str, Table] = {}

    @classmethod
    def to_read(cls, file: Path) -> Database:
        """Return a SQLite file, in a way that cannot write to it."""
        # Quoted by as_uri: a ? or # in a path would begin something else.
        uri = f"sqlite:///{file.absolute().as_uri()}?mode=ro&uri=true"
        return cls(sa.create_engine(uri, isolation_level="AUTOCOMMIT"))

    @classmethod
    def to_fill(cls, uri: str) -> Database:
        """Return the database that a tracking URI names."""
        return cls(create_sqlalchemy_engine(uri))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[View]:
        """Look at the database as it is at this moment."""
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")  # one moment for all tables
                yield self._view(connection)
                connection.exec_driver_sql("ROLLBACK")
        except sa.exc.DBAPIError as error:
            raise TrackingError(f"{self} cannot be read: {first_line(error.orig)}") from error

    @contextmanager
    def writing(self) -> Iterator[View]:
        """Open one transaction, with nobody else writing to MLflow's tables meanwhile.

        It is rolled back if an exception leaves the block.
        """
        try:
            with self._transaction() as connection:
                yield self._view(connection)
        except sa.exc.DBAPIError as error:
            busy = getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE
            raise TrackingError(
                f"{self} does not take the rows: {first_line(error.orig)}; "
                + ("stop the server that uses it" if busy else "nothing was written to it")
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
            return
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE}'")
            quote = self._engine.dialect.identifier_preparer.format_table
            names = ", ".join(quote(table) for table in self._view(connection).tables.values())
            connection.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
            yield connection

    def _view(self, connection: Connection) -> View:
        self._tables = self._tables or _reflect(connection)
        return View(connection, self._tables)

    def __str__(self) -> str:
        return self._engine.url.render_as_string()


@dataclass(frozen=True)
class View:
    """A database at one moment, or in one transaction.

    Attributes
    ----------
    connection : Connection
    tables : mapping of str to Table
        MLflow's own, as this database has them; those first that others refer to.
    """

    connection: Connection
    tables: Mapping[str, Table]

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return str(self.connection.dialect.name)

    @property
    def name(self) -> str:
        """The database's address, without its password."""
        return self.connection.engine.url.render_as_string()

    def revision(self) -> str | None:
        """Return the version of the schema; None where it is none of MLflow's."""
        if not sa.inspect(self.connection).has_table(_REVISIONS):
            return None
        return self.ask(sa.text(f"SELECT version_num FROM {_REVISIONS}")).scalar()  # type: ignore[no-any-return]  # noqa: S608

    def columns(self, table: str) -> Any:
        """Return a table's columns, by attribute."""
        return self.tables[table].c

    def ask(self, query: Any) -> Any:
        """Execute a query."""
        return self.connection.execute(query)


def _reflect(connection: Connection) -> dict[str, Table]:
    known = _names_of_mlflow()
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda name, _: name in known)
    for table in metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, sa.JSON):
                column.type.none_as_null = True  # what is not there stays away
    return {table.name: table for table in metadata.sorted_tables}


def _names_of_mlflow() -> set[str]:
    import mlflow.store.model_registry.dbmodels.models
    import mlflow.store.tracking.dbmodels.models  # noqa: F401
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def inhabitants(view: View) -> list[str]:
    """Return what a database holds that a new one does not, in words; none: it is empty."""
    found = []
    for name, table in view.tables.items():
        query = sa.select(sa.func.count()).select_from(table)
        if name in _BORN_WITH:
            column, value = _BORN_WITH[name]
            query = query.where(table.c[column] != value)
        if count := view.ask(query).scalar():
            found.append(f"{count:,} {name}")
    return found


def check_rights(view: View) -> None:
    """Do what copying does, with no row: a database refuses that to those who may not write."""
    for table in view.tables.values():
        columns = _columns(table)
        nothing = sa.select(*columns).where(sa.false())
        names = [column.name for column in columns]
        view.ask(sa.insert(table).from_select(names, nothing))
        view.ask(sa.delete(table).where(sa.false()))


def count_rows(view: View) -> int:
    """Return how many rows MLflow's tables have."""
    counts = (sa.select(sa.func.count()).select_from(each) for each in view.tables.values())
    return sum(view.ask(count).scalar_one() for count in counts)


def misfits(source: View, target: View, *, ignore: Iterable[tuple[str, str]]) -> str:
    """Say what a database holds that another one cannot, each with its first row; '' if nothing.

    Parameters
    ----------
    source, target : View
    ignore : iterable of tuple of str and str
        Tables and columns that are not copied as they are.
    """
    if target.dialect == "sqlite":
        return ""
    ours, theirs = source.tables, target.tables
    found = []
    for name, table in ours.items():
        texts = [
            (column, getattr(theirs[name].c[column.name].type, "length", None))
            for column in table.columns
            if isinstance(column.type, sa.String) and (name, column.name) not in ignore
        ]
        for column, length in texts:
            checks = {"the character NUL": sa.func.instr(column, sa.func.char(0)) > 0}
            if length:
                checks[f"more than {length:,} characters"] = sa.func.length(column) > length
            for what, condition in checks.items():
                keys = list(table.primary_key.columns)
                if row := source.ask(sa.select(*keys).where(condition).limit(1)).first():
                    where = ", ".join(str(part) for part in row)
                    found.append(f"{name}.{column.name} of {where} has {what}")
    return "; ".join(found)


def copy_tables(
    source: View,
    target: View,
    rewrite: Callable[[str, Row], Row],
    advance: Callable[[int], None] = lambda rows: None,
) -> dict[str, int]:
    """Copy all rows of MLflow's tables, read them back, and compare.

    Parameters
    ----------
    source, target : View
        The target is empty, but for what it was born with.
    rewrite : callable
        Takes a table's name and a row, and returns the row as it shall be.
    advance : callable, optional
        Told how many rows were copied since it was last told.

    Returns
    -------
    dict of str to int
        The number of rows, by table; those tables alone that have any.

    Raises
    ------
    TrackingError
        If the tables are not the same, or what was read back differs from what was written.
    """
    ours, theirs = source.tables, target.tables
    _check_same_columns(ours, theirs)
    for name, (column, value) in _BORN_WITH.items():
        target.ask(sa.delete(theirs[name]).where(theirs[name].c[column] == value))
    counts = {}
    for name, table in ours.items():
        written = _Digest()
        for batch in _batches(source, table):
            rows = [rewrite(name, row) for row in batch]
            target.connection.execute(sa.insert(theirs[name]), rows)
            written.add(rows)
            advance(len(rows))
        read = _Digest()
        for batch in _batches(target, theirs[name]):
            read.add(batch)
        if read != written:
            raise TrackingError(
                f"table {name} came back with {read.count:,} rows of other content than the "
                f"{written.count:,} that were written: nothing was moved"
            )
        if read.count:
            counts[name] = read.count
    _continue_sequences(target)
    return counts


def _check_same_columns(ours: Mapping[str, Table], theirs: Mapping[str, Table]) -> None:
    if ours.keys() != theirs.keys():
        raise TrackingError(
            f"the databases differ in their tables: {sorted(ours.keys() ^ theirs.keys())}"
        )
    for name, table in ours.items():
        both = ({column.name for column in _columns(each)} for each in (table, theirs[name]))
        if differing := set.symmetric_difference(*both):
            raise TrackingError(f"the databases differ in table {name}: {sorted(differing)}")


def _columns(table: Table) -> list[Column[Any]]:
    """Return a table's columns but for those that the database computes from others."""
    return [column for column in table.columns if column.computed is None]


def _batches(view: View, table: Table) -> Iterator[list[Row]]:
    columns = _columns(table)
    names = [column.name for column in columns]
    try:
        query = sa.select(*columns).execution_options(yield_per=_BATCH)
        with view.ask(query) as result:
            for rows in result.partitions():
                yield [dict(zip(names, row, strict=True)) for row in rows]
    except sa.exc.DBAPIError as error:
        raise TrackingError(
            f"table {table.name} of {view.name} cannot be read: {first_line(error.orig)}"
        ) from error


def _continue_sequences(target: View) -> None:
    """Let IDs that a database hands out itself go on behind those it was given."""
    if target.dialect != "postgresql":
        return  # SQLite takes the largest there is, plus one
    for name, table in target.tables.items():
        for column in table.primary_key.columns:
            sequence = target.ask(
                sa.select(sa.func.pg_get_serial_sequence(name, column.name))
            ).scalar()
            if sequence and (largest := target.ask(sa.select(sa.func.max(column))).scalar()):
                target.ask(sa.select(sa.func.setval(sequence, largest)))


class _Digest:
    """What rows hold, in whatever order they come: the sum of their hashes.

    Examples
    --------
    >>> there, back = _Digest(), _Digest()
    >>> there.add([{"a": 1}, {"a": 2.0}])
    >>> back.add([{"a": 2.0}, {"a": 1}])
    >>> there == back
    True
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            content = repr([(name, _plain(row[name])) for name in sorted(row)])
            self._sum += int.from_bytes(hashlib.sha256(content.encode()).digest())
            self.count += 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Digest) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def _plain(value: Any) -> Any:
    """Return a value in one form, where databases have several: JSON in any order of its keys."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
