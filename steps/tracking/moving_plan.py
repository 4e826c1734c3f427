"""What of a store's database names a place, where that place will be, and its name then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from steps.tracking.folder_store import in_trash, stamp_of
from steps.tracking.reachable import local_folder
from steps.tracking.stores import TrackingError
from steps.tracking.table_copy import Row, View

URI_COLUMNS: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""The columns that name places; and where artifacts of traces are, is a tag of theirs."""
PROXIED: Final = "mlflow-artifacts:"
_TRACE_TAG: Final = "mlflow.artifactLocation"
_PROMPT_TAG: Final = "_mlflow_experiment_ids"  # such as ",1,2,"


@dataclass(frozen=True)
class Destination:
    """Where artifacts go.

    Attributes
    ----------
    files : str
        The folder or URI they are written to.
    name : str
        What the database calls it: the same, or ``mlflow-artifacts:/`` where clients get at them
        through a server.
    """

    files: str
    name: str

    def name_of(self, place: str) -> str:
        """Return what the database calls a place."""
        return _exchange(place, self.files, self.name)

    def files_of(self, name: str) -> str:
        """Return where the files are of what the database calls so."""
        return _exchange(name, self.name, self.files)


def _exchange(uri: str, old: str, new: str) -> str:
    old, new = old.rstrip("/"), new.rstrip("/")
    return new + uri.removeprefix(old) if uri.startswith(f"{old}/") else uri


@dataclass(frozen=True)
class Place:
    """A folder of artifacts, and the URI where it will be."""

    folder: Path
    uri: str


@dataclass(frozen=True)
class Plan:
    """What becomes of a store's places and IDs.

    Attributes
    ----------
    places : tuple of Place
        What is to be copied.
    names : mapping of str to str
        What the database will call each place, by what it calls it now.
    renumbered : mapping of int to int
        New IDs of experiments whose old ones the new database cannot hold.
    """

    places: tuple[Place, ...]
    names: Mapping[str, str]
    renumbered: Mapping[int, int]

    def rewrite(self, table: str, row: Row) -> Row:
        """Return a row as it shall be in the new database."""
        row = {name: self._renumber_links(value) for name, value in row.items()}
        for of, column in URI_COLUMNS:
            if of == table and row[column]:
                row[column] = self.moved(row[column])
        if table == "trace_tags" and row["key"] == _TRACE_TAG:
            row["value"] = self.moved(row["value"])
        if self.renumbered:
            self._renumber(table, row)
        return row

    def moved(self, uri: str) -> str:
        """Return what a URI becomes, if it is of a place that moves, or of something inside."""
        above, inside = _plain(uri), ""
        while above:
            if above in self.names:
                return self.names[above] + inside
            above, slash, last = above.rpartition("/")
            inside = f"{slash}{last}{inside}"
        return uri

    def _renumber(self, table: str, row: Row) -> None:
        if row.get("experiment_id") is not None:
            row["experiment_id"] = self.renumbered.get(row["experiment_id"], row["experiment_id"])
        if table == "entity_associations":
            for end in ("source", "destination"):
                if row[f"{end}_type"] == "experiment":
                    row[f"{end}_id"] = self._renumber_text(row[f"{end}_id"])
        if table == "registered_model_tags" and row["key"] == _PROMPT_TAG:
            row["value"] = ",".join(map(self._renumber_text, row["value"].split(",")))

    def _renumber_text(self, number: str) -> str:
        return str(self.renumbered.get(int(number), number)) if number.isdecimal() else number

    def _renumber_links(self, value: Any) -> Any:
        if isinstance(value, str) and "#/experiments/" in value:
            for old, new in self.renumbered.items():
                value = value.replace(f"#/experiments/{old}/", f"#/experiments/{new}/")
        return value


@dataclass(frozen=True)
class OldHouse:
    """What is known of a store beside its database.

    Attributes
    ----------
    artifacts : str or None
        Where a server keeps what the database calls ``mlflow-artifacts:/``.
    folder : Path or None
        The folder store that the database was made of.
    stamp : str
        What :func:`steps.tracking.folder_store.stamp_of` said of it before.
    """

    artifacts: str | None = None
    folder: Path | None = None
    stamp: str = ""

    def has_changed(self) -> bool:
        """Whether somebody wrote to the folder store after it was read."""
        return self.folder is not None and stamp_of(self.folder) != self.stamp

    def files_of(self, uri: str) -> str:
        """Return the place itself, where the database only says that a server knows it."""
        if not uri.startswith(PROXIED):
            return uri
        if self.artifacts is None:
            raise TrackingError(
                f"artifacts of the old store are behind a server ({uri}): say where it keeps them, "
                "as in --source_artifacts=./mlartifacts (its --artifacts-destination)"
            )
        return f"{self.artifacts.rstrip('/')}/{urlsplit(uri).path.strip('/')}"


def make_plan(source: View, house: OldHouse, destination: Destination, largest_id: int) -> Plan:
    """Look for everything that names a place.

    Each kind gets the place that MLflow itself would give it in an experiment whose artifacts are
    in a folder named after its ID. What is in an object store already stays there.

    Parameters
    ----------
    source : View
    house : OldHouse
    destination : Destination
    largest_id : int
        The largest ID of an experiment that the new database holds.
    """
    renumbered = _renumber(source, largest_id)
    places, names = {}, {}
    for experiment, inside, uri in _named_places(source):
        files = house.files_of(uri)
        folder = local_folder(files)
        new = files
        if folder is not None:
            new = f"{destination.files}/{renumbered.get(experiment, experiment)}{inside}"
            folder = folder.absolute()
            if house.folder:
                folder = in_trash(house.folder, folder)
            if inside:
                places[_plain(uri)] = Place(folder, new)
        names[_plain(uri)] = destination.name_of(new)
    return Plan(tuple(places.values()), names, renumbered)


def _named_places(source: View) -> Iterator[tuple[int, str, str]]:
    """Yield an experiment's ID, a folder's path in that of the experiment, and its present URI."""
    experiments, runs, models, traces, tags = (
        source.columns(name)
        for name in ("experiments", "runs", "logged_models", "trace_info", "trace_tags")
    )
    for query in (
        sa.select(experiments.experiment_id, sa.literal(""), experiments.artifact_location),
        sa.select(
            runs.experiment_id, sa.literal("/") + runs.run_uuid + "/artifacts", runs.artifact_uri
        ),
        sa.select(
            models.experiment_id,
            sa.literal("/models/") + models.model_id + "/artifacts",
            models.artifact_location,
        ),
        sa.select(
            traces.experiment_id,
            sa.literal("/traces/") + traces.request_id + "/artifacts",
            tags.value,
        ).where(tags.request_id == traces.request_id, tags.key == _TRACE_TAG),
    ):
        yield from (tuple(row) for row in source.ask(query) if row[2])


def _renumber(source: View, largest: int) -> dict[int, int]:
    """Give those experiments new IDs whose own are too large, in the order they were made."""
    experiments = source.columns("experiments")
    query = sa.select(experiments.experiment_id).order_by(
        experiments.creation_time, experiments.experiment_id
    )
    numbers = list(source.ask(query).scalars())
    free = max((number for number in numbers if number <= largest), default=0) + 1
    too_large = [number for number in numbers if number > largest]
    return {number: free + place for place, number in enumerate(too_large)}


def _plain(uri: str) -> str:
    """Return a URI in one form: folders as absolute paths."""
    folder = local_folder(uri)
    return uri.rstrip("/") if folder is None else str(folder.absolute())


def strangers(source: View, plan: Plan) -> list[str]:
    """Return versions of models, in words, whose files are in a folder that is no run's."""
    versions = source.columns("model_versions")
    found = []
    for name, number, *uris in source.ask(
        sa.select(versions.name, versions.version, versions.source, versions.storage_location)
    ):
        for uri in filter(None, uris):
            folder = local_folder(uri)
            if folder is not None and folder.exists() and plan.moved(uri) == uri:
                found.append(f"version {number} of {name} ({folder})")
                break
    return found
