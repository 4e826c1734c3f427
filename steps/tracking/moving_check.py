"""Whether a store that was moved can be used: what others build on is loaded from its new place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import sqlalchemy as sa

from steps.market.snapshot import SnapshotError
from steps.tracking.mlflow_logger import SNAPSHOT_TAG
from steps.tracking.model_store import load_model
from steps.tracking.snapshot_store import KEY_TAG, load_snapshot, snapshot_of
from steps.tracking.stores import TrackingError
from steps.tracking.table_copy import View

Load = Callable[[], object]
FilesOf = Callable[[str], str]
"""From what a database calls a place to where its files are."""


def things_to_load(database: View, files_of: FilesOf) -> dict[str, Load]:
    """Return what loads each finished snapshot, and each model that an alias points to, by name.

    Parameters
    ----------
    database : View
    files_of : callable
    """
    return {**dict(_snapshots(database, files_of)), **dict(_models(database, files_of))}


def check_loads(
    after: Mapping[str, Load], before: Mapping[str, Load], tell: Callable[[str], None]
) -> None:
    """Load everything; what does not load has to be damaged in the old store, too.

    Snapshots are hashed again. No code that a model carries is run.

    Raises
    ------
    TrackingError
        If something loads from the old store alone.
    """
    good = 0
    for name, load in after.items():
        problem = _problem(load)
        if problem is None:
            good += 1
        elif _problem(before[name]) is None:
            raise TrackingError(f"{name} was well before it was moved: {problem}")
        else:
            tell(f"{name} cannot be used, nor could it before: {problem}")
    tell(f"{good} of {len(after)} snapshots and models with an alias loaded, and verified")


def _problem(load: Load) -> str | None:
    try:
        load()
    except (SnapshotError, TrackingError) as error:
        return str(error)
    return None


def _snapshots(database: View, files_of: FilesOf) -> Iterator[tuple[str, Load]]:
    runs, tags = database.columns("runs"), database.columns("tags")
    finished = sa.select(runs.run_uuid, runs.artifact_uri).where(
        runs.status == "FINISHED", runs.lifecycle_stage == "active"
    )
    marked = finished.join(database.tables["tags"], tags.run_uuid == runs.run_uuid)
    for run_id, uri in database.ask(marked.where(tags.key == KEY_TAG)).all():
        rows = database.ask(sa.select(tags.key, tags.value).where(tags.run_uuid == run_id))
        known = {row.key: row.value for row in rows}
        if SNAPSHOT_TAG in known:
            stored = snapshot_of(run_id, files_of(uri), known)
            yield (
                f"snapshot {stored.snapshot_id} of run {run_id}",
                partial(load_snapshot, stored),
            )


def _models(database: View, files_of: FilesOf) -> Iterator[tuple[str, Load]]:
    aliases = database.columns("registered_model_aliases")
    versions = database.columns("model_versions")
    query = sa.select(aliases.name, aliases.alias, versions.storage_location).where(
        aliases.workspace == versions.workspace,
        aliases.name == versions.name,
        aliases.version == versions.version,
        versions.storage_location.is_not(None),
    )
    for name, alias, uri in database.ask(query).all():
        yield f"model {name}@{alias}", partial(load_model, files_of(_resolved(database, uri)))


def _resolved(database: View, uri: str) -> str:
    """Return the place behind a URI such as ``runs:/…/model``, which no client can look up yet."""
    if not uri.startswith("runs:/"):
        return uri
    run_id, _, path = uri.removeprefix("runs:/").partition("/")
    models, runs = database.columns("logged_models"), database.columns("runs")
    logged = sa.select(models.artifact_location).where(
        models.source_run_id == run_id, models.name == path
    )
    if place := database.ask(logged.order_by(models.creation_timestamp_ms.desc())).scalar():
        return str(place)
    run = sa.select(runs.artifact_uri).where(runs.run_uuid == run_id)
    return f"{database.ask(run).scalar()}/{path}"
