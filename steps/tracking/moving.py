"""Moving a store: everything MLflow knows and keeps, into another database and to another place.

Files go first and rows last, in one transaction: a move that was interrupted leaves an empty
database, and is repeated without copying again what has arrived. The old store is only read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from steps.tracking.file_copy import copy_folder, files_in
from steps.tracking.folder_store import folder_into_database, stamp_of
from steps.tracking.journal import pending
from steps.tracking.moving_check import check_loads, things_to_load
from steps.tracking.moving_plan import (
    PROXIED,
    URI_COLUMNS,
    Destination,
    OldHouse,
    Plan,
    make_plan,
    strangers,
)
from steps.tracking.reachable import local_folder
from steps.tracking.schema import sqlite_file
from steps.tracking.settings import redact
from steps.tracking.stores import (
    TrackingError,
    absolute_uri,
    check_artifacts,
    describe_store,
    open_store,
)
from steps.tracking.table_copy import (
    Database,
    View,
    check_rights,
    copy_tables,
    count_rows,
    inhabitants,
    misfits,
)

_SHOWN: Final = 5
_LARGEST_ID: Final = {"postgresql": 2**31 - 1, "sqlite": 2**63 - 1}
"""Of an experiment. Folder stores take numbers of 18 digits."""

Tell = Callable[[str], None]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Takes what is done and how much there is to do; yields what is told of each part."""


@dataclass(frozen=True)
class Move:
    """What to move, and where to.

    Attributes
    ----------
    source : str
        ``sqlite:///…`` or ``file:…``.
    target : str
        ``postgresql://…`` or ``sqlite:///…``.
    destination : Destination
    source_artifacts : str or None
        Where a server keeps what the old database calls ``mlflow-artifacts:/``.
    by_name : bool
        The destination's name was asked for; otherwise a database that a server has made, whose
        clients get at artifacts through it, is refused.
    allow_running : bool
        Take runs as they are that have not ended.
    """

    source: str
    target: str
    destination: Destination
    source_artifacts: str | None = None
    by_name: bool = False
    allow_running: bool = False


def move_store(move: Move, tell: Tell, progress: Progress) -> None:
    """Move a store.

    Parameters
    ----------
    move : Move
    tell : callable
        Told what has been done, line by line.
    progress : callable
        Shows it meanwhile.

    Raises
    ------
    TrackingError
        If something is in the way, or something did not arrive as it was. The old store is as it
        was, and nothing is in the new database.
    """
    _check_addresses(move)
    with ExitStack() as stack:
        file, house = stack.enter_context(_as_database(move, tell))
        open_store(move.target)  # makes a new one where there is none
        old = stack.enter_context(closing(Database.to_read(file)))
        new = stack.enter_context(closing(Database.to_fill(move.target)))
        with old.reading() as source, new.writing() as target:
            _check_schema(move, source, target)
            _check_source(move, source)
            _check_target(move, target)
            check_rights(target)
            largest = _LARGEST_ID[target.dialect]
            plan = make_plan(source, house, move.destination, largest)
            _check_fit(source, target, plan)
            left = strangers(source, plan)
        for one in left:
            tell(f"left where it is, since it belongs to no run: {one}")
        for number, instead in plan.renumbered.items():
            tell(f"experiment {number} gets the number {instead}: PostgreSQL holds none so large")
        _copy_files(plan, tell, progress)
        with old.reading() as source, new.writing() as target:
            _check_target(move, target)
            if make_plan(source, house, move.destination, largest) != plan:
                raise TrackingError(_CHANGED)
            with progress("copying rows", count_rows(source)) as advance:
                rows = copy_tables(source, target, plan.rewrite, advance)
            tell(f"{sum(rows.values()):,} rows of {len(rows)} tables written, read back and equal")
            before = things_to_load(source, house.files_of)
            check_loads(things_to_load(target, move.destination.files_of), before, tell)
            if house.has_changed():
                raise TrackingError(_CHANGED)


_CHANGED: Final = (
    "the old store has changed meanwhile: stop what writes to it, and repeat the move; what has "
    "been copied is not copied again"
)


def check_is_database(target: str) -> None:
    """Refuse a tracking URI of which no database is known.

    Raises
    ------
    TrackingError
    """
    if not target.startswith(("postgresql", "sqlite:///")):
        raise TrackingError(
            f"{describe_store(target)} is no database: move into the one behind it while the "
            "server is stopped, with MLFLOW_TRACKING_URI=postgresql://… or sqlite:///…"
        )


def _check_addresses(move: Move) -> None:
    check_is_database(move.target)
    if absolute_uri(move.source) == absolute_uri(move.target):
        raise TrackingError(
            f"{redact(move.source)} is both the old store and the new one: set MLFLOW_TRACKING_URI,"
            " or MLFLOW_BACKEND=remote and MLFLOW_POSTGRES_URI, to the new one"
        )
    new, old = local_folder(move.destination.files), local_folder(move.source)
    if new and old and new.absolute().is_relative_to(old.absolute()):
        raise TrackingError(f"{new} is inside the old store {old}: name another --artifacts")
    check_artifacts(move.destination.files, move.target)


@contextmanager
def _as_database(move: Move, tell: Tell) -> Iterator[tuple[Path, OldHouse]]:
    """Return the database of the old store; of a folder store, one made of it."""
    if move.source.startswith("sqlite:///"):
        if not sqlite_file(move.source).exists():
            raise TrackingError(f"there is no {sqlite_file(move.source)} to move")
        yield sqlite_file(move.source), OldHouse(move.source_artifacts)
        return
    folder = local_folder(move.source)
    if folder is None:
        raise TrackingError(
            f"{redact(move.source)} cannot be moved: expected sqlite:///… or file:…, found neither"
        )
    if not folder.is_dir():
        raise TrackingError(f"there is no folder {folder} to move")
    house = OldHouse(move.source_artifacts, folder.absolute(), stamp_of(folder.absolute()))
    with tempfile.TemporaryDirectory(prefix="candlewick-") as place:
        database = Path(place, "mlflow.db")
        folder_into_database(folder, database)
        tell(f"{folder} read into a database, in which MLflow finds the same")
        yield database, house


def _check_schema(move: Move, source: View, target: View) -> None:
    if (found := source.revision()) is None:
        raise TrackingError(f"{move.source} holds nothing of MLflow's")
    if found != (expected := target.revision()):
        raise TrackingError(
            f"{move.source} has schema {found}, and this MLflow makes {expected}: if it is the "
            f"older one, take a backup, run `mlflow db upgrade {move.source}`, and repeat the move"
        )


def _check_source(move: Move, source: View) -> None:
    waiting = [each for each in pending() if each.store == redact(absolute_uri(move.source))]
    if waiting:
        raise TrackingError(
            f"run {waiting[0].run_id} has logged what {move.source} does not hold yet: deliver it "
            f"first, MLFLOW_TRACKING_URI={move.source} python -m steps.sync"
        )
    runs = source.columns("runs")
    unfinished = [
        f"{run_id} ({name})"
        for run_id, name in source.ask(
            sa.select(runs.run_uuid, runs.name)
            .where(runs.status == "RUNNING", runs.lifecycle_stage == "active")
            .order_by(runs.start_time)
        )
    ]
    if unfinished and not move.allow_running:
        raise TrackingError(
            f"{_some(unfinished)} not ended: wait, or end those whose process is gone "
            f"(MLFLOW_TRACKING_URI={move.source} python -m steps.sync), or take them as they are "
            "with --allow_running=true"
        )


def _some(things: list[str]) -> str:
    more = len(things) - _SHOWN
    shown = ", ".join(things[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"{shown} {'has' if len(things) == 1 else 'have'}"


def _check_target(move: Move, target: View) -> None:
    if found := inhabitants(target):
        raise TrackingError(
            f"{describe_store(move.target)} is not empty ({', '.join(found[:_SHOWN])}): name a new "
            "database"
        )
    experiments = target.columns("experiments")
    homes = target.ask(sa.select(experiments.artifact_location)).scalars()
    if not move.by_name and any((home or "").startswith(PROXIED) for home in homes):
        raise TrackingError(
            f"{describe_store(move.target)} was made by a server that passes artifacts on: say "
            "with --artifacts where that keeps them (its --artifacts-destination), and add "
            "--artifact_uri=mlflow-artifacts:/"
        )


def _check_fit(source: View, target: View, plan: Plan) -> None:
    if found := misfits(source, target, ignore=URI_COLUMNS):
        raise TrackingError(
            f"PostgreSQL cannot hold all of the old store: {found}. Correct it there, or delete it"
        )
    if target.dialect == "sqlite":
        return
    limit = min(
        getattr(target.columns(of)[column].type, "length", None) or 999
        for of, column in URI_COLUMNS
    )
    longest = max(plan.names.values(), key=len, default="")
    if len(longest) > limit:
        raise TrackingError(
            f"{longest} has {len(longest)} characters, of which PostgreSQL holds {limit}: name "
            "--artifacts that are shorter"
        )


def _copy_files(plan: Plan, tell: Tell, progress: Progress) -> None:
    count = size = there = 0
    places = [place for place in plan.places if place.folder.is_dir()]
    if plan.places and not places:
        tell(f"no run has files: there is no {plan.places[0].folder}, for one")
    with progress("copying files", sum(len(files_in(place.folder)) for place in places)) as advance:
        for place in places:
            if str(place.folder) == place.uri:
                continue  # it is to stay where it is
            for file in copy_folder(place.folder, place.uri):
                count, size, there = count + 1, size + file.size, there + file.was_there
                advance(1)
    tell(
        f"{count:,} files ({size / 1e6:,.1f} MB) are in their new place with the SHA-256 they had"
        + (f"; {there:,} were there already" if there else "")
    )
