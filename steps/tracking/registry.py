"""MLflow's model registry: versions, the aliases that say which one counts, and whose turn it is.

The registry moves an alias without asking where it points, so two promotions at once could each
replace a champion that they never saw. They take turns instead: see :meth:`RegisteredModel.turn`.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout
from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from steps.tracking.project import StepRun, find_step_run
from steps.tracking.stores import TrackingError, first_line

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
NAME_PATTERN: Final = r"^\w([\w .-]*\w)?$"
"""A registered model's name: what every store keeps, and can be asked for."""
NAME_LENGTH: Final = 200

_TICKET: Final = "candlewick.turn."  # and the run ID; a tag of the registered model
_ABANDONED_AFTER: Final = 600.0  # seconds
_PATIENCE: Final = 1800.0  # seconds
_POLL: Final = 0.25  # seconds
_DESCRIPTION_LENGTH: Final = 5000  # characters; the registry's own limit
_GONE: Final = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Attributes
    ----------
    name : str
    number : int
    source : str
        URI of the model it was registered from.
    run_id : str or None
        The run that trained it, where that is known.
    tags : mapping of str to str
    """

    name: str
    number: int
    source: str
    run_id: str | None
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """What it is loaded by."""
        return f"models:/{self.name}/{self.number}"

    @property
    def former_champions(self) -> list[int]:
        """The versions that one goes back to from this one, the nearest last."""
        line = self.tags.get("former_champions", "")
        return [int(number) for number in line.split() if number.isdecimal()]


class RegisteredModel:
    """A name in the model registry, with its versions and aliases.

    Parameters
    ----------
    client : MlflowClient
    name : str
        See `NAME_PATTERN`.
    """

    def __init__(self, client: mlflow.MlflowClient, name: str) -> None:
        self.client = client
        self.name = name

    def create(self) -> None:
        """Make the name known, unless it is."""
        with _asking(f"to create the registered model {self.name!r}"):
            try:
                self.client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or "prompt" in str(error):
                    raise

    def require(self) -> None:
        """Make sure that the name is known.

        Raises
        ------
        TrackingError
            If it is not; the message names those there are.
        """
        try:
            self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != _GONE:
                raise TrackingError(
                    f"the model registry does not answer: {first_line(error)}"
                ) from error
            with _asking("to list its models"):
                known = ", ".join(
                    sorted(each.name for each in self.client.search_registered_models())
                )
            raise TrackingError(
                f"there is no registered model {self.name!r} in this store; there are: "
                f"{known or 'none'}. `mlflow run . -e promote` registers one"
            ) from None

    def champion(self) -> ModelVersion | None:
        """Return the version behind the alias ``champion``."""
        with _asking(f"for the champion of {self.name!r}"):
            number = self._aliases().get(CHAMPION)
            return None if number is None else self._version(number)

    def versions(self) -> list[int]:
        """Return the numbers of all versions that were not deleted."""
        with _asking(f"for the versions of {self.name!r}"):
            return sorted(int(each.version) for each in self._search())

    def version(self, number: int) -> ModelVersion:
        """Return a version.

        Raises
        ------
        TrackingError
            If there is none, or it was deleted; the message names those there are.
        """
        known = self.versions()
        if number not in known:
            there_are = ", ".join(map(str, known)) or "none"
            raise TrackingError(
                f"{self.name} has no version {number}: it never had, or it was deleted; "
                f"there are: {there_are}"
            )
        with _asking(f"for version {number} of {self.name!r}"):
            return self._version(number)

    def register(self, model_uri: str) -> ModelVersion:
        """Return the version made from a model; the first time, make it.

        To be called during one's :meth:`turn`, or two runs may both find none.
        """
        with _asking(f"to register {model_uri} as a version of {self.name!r}"):
            for known in self._search():
                if known.source == model_uri:
                    return _version_of(known)
            logged = model_uri.removeprefix("models:/")
            made = self.client.create_model_version(
                self.name, model_uri, model_id=logged if logged.startswith("m-") else None
            )
            return _version_of(made)

    def describe(
        self, number: int, description: str | None = None, **tags: str | int | None
    ) -> None:
        """Write tags on a version, and its description; a tag that is None is taken away."""
        with _asking(f"to write on version {number} of {self.name!r}"):
            if description is not None:
                self.client.update_model_version(
                    self.name, str(number), description[:_DESCRIPTION_LENGTH]
                )
            for name, value in tags.items():
                if value is None:
                    self.client.delete_model_version_tag(self.name, str(number), name)
                else:
                    self.client.set_model_version_tag(self.name, str(number), name, str(value))

    def crown(self, version: ModelVersion, former: Sequence[int]) -> None:
        """Move ``champion`` to a version, which is no ``challenger`` any longer.

        Parameters
        ----------
        version : ModelVersion
        former : sequence of int
            The versions to go back to from it, the nearest last. They are written down before the
            alias moves: a champion that does not say whom it replaced has no way back.
        """
        self.describe(
            version.number,
            replaces=former[-1] if former else "none",
            former_champions=" ".join(map(str, former)),
            champion_since=now(),
            rolled_back_by=None,
            rolled_back_at=None,
        )
        with _asking(f"to make version {version.number} of {self.name!r} the champion"):
            self.client.set_registered_model_alias(self.name, CHAMPION, str(version.number))
            if self._aliases().get(CHALLENGER) == version.number:
                self.client.delete_registered_model_alias(self.name, CHALLENGER)

    def challenge(self, version: ModelVersion) -> None:
        """Move ``challenger`` to a version."""
        if "replaces" not in version.tags:
            self.describe(version.number, replaces="none")
        with _asking(f"to make version {version.number} of {self.name!r} the challenger"):
            self.client.set_registered_model_alias(self.name, CHALLENGER, str(version.number))

    @contextmanager
    def turn(self, run_id: str, tell: Callable[[str], None]) -> Iterator[Check]:
        """Wait until no other run changes this model, and keep the others waiting meanwhile.

        Runs queue by tickets, which are tags of the registered model, so that it works on every
        store and from any number of hosts. A ticket is one more than all those handed out; the
        lowest has its turn. Since every run writes its own tag alone, a dead run's ticket can be
        torn up without hitting that of another run. That is done where the run is not RUNNING any
        longer, or where its ticket is ten minutes old: a process that was killed stays RUNNING
        for ever. (Hosts whose clocks differ by so much are not kept apart.)

        Parameters
        ----------
        run_id : str
            The run that wants its turn.
        tell : callable
            Told whom it waits for.

        Yields
        ------
        callable
            To be called just before the first change, with the champion that was found: raises a
            TrackingError where the turn has taken so long that others do not wait for it any more,
            or where somebody who does not queue has moved the alias.

        Raises
        ------
        TrackingError
            If the turn does not come within half an hour.

        References
        ----------
        L. Lamport, "A new solution of Dijkstra's concurrent programming problem",
        Communications of the ACM 17 (1974).
        """
        queue = _Queue(self.client, self.name, run_id)

        def check(champion: ModelVersion | None) -> None:
            with _asking(f"whose turn with {self.name!r} it is"):
                queue.check()
            found = self.champion()
            if (found and found.number) != (champion and champion.number):
                raise TrackingError(
                    f"somebody has moved the champion of {self.name} by hand meanwhile: nothing "
                    "was changed; run the step again"
                )

        with _alone_in_folder(self.client.tracking_uri, self.name):
            try:
                with _asking(f"for a turn with {self.name!r}"):
                    queue.join()
                    queue.wait(tell)
                yield check
            finally:
                with _asking(f"to end the turn with {self.name!r}"):
                    queue.leave(run_id)

    def _aliases(self) -> dict[str, int]:
        found = self.client.get_registered_model(self.name).aliases
        return {alias: int(number) for alias, number in found.items()}

    def _version(self, number: int) -> ModelVersion:
        return _version_of(self.client.get_model_version(self.name, str(number)))

    def _search(self) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{self.name}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda each: int(each.version))


Check = Callable[[ModelVersion | None], None]


@dataclass(frozen=True)
class _Ticket:
    """A place in the queue; number 0 while its holder looks which one is free."""

    number: int
    since: float  # seconds since 1970, by the holder's clock
    host: str

    @property
    def age(self) -> float:
        return time.time() - self.since

    def write(self) -> str:
        return json.dumps({"number": self.number, "since": self.since, "host": self.host})

    @classmethod
    def read(cls, text: str) -> _Ticket:
        try:
            content = json.loads(text)
            return cls(int(content["number"]), float(content["since"]), str(content["host"]))
        except (ValueError, TypeError, KeyError):  # a folder store, read while it is written
            return cls(0, time.time(), "unknown")


class _Queue:
    """Lamport's bakery, with the registered model's tags for shared memory."""

    def __init__(self, client: mlflow.MlflowClient, name: str, run_id: str) -> None:
        self._client = client
        self._name = name
        self._run_id = run_id
        self._ticket = _Ticket(0, time.time(), socket.gethostname())

    def join(self) -> None:
        self._show(self._ticket)  # whoever looks now waits until it has a number
        last = max((ticket.number for ticket in self._tickets().values()), default=0)
        self._show(_Ticket(last + 1, self._ticket.since, self._ticket.host))

    def wait(self, tell: Callable[[str], None]) -> None:
        began, told = time.monotonic(), ""
        while (first := self._ahead()) is not None:
            run_id, ticket = first
            if reason := self._why_abandoned(run_id, ticket):
                tell(f"run {run_id} has left {self._name} half way, {reason}: going on without it")
                self.leave(run_id)
                continue
            if told != run_id:
                tell(f"waiting for run {run_id} on {ticket.host}, which changes {self._name}")
                told = run_id
            if time.monotonic() - began > _PATIENCE:
                raise TrackingError(
                    f"{self._name} is still being changed by run {run_id} on {ticket.host}: if "
                    "that run is dead, end it (in the UI, or with MlflowClient.set_terminated), "
                    "and start again"
                )
            time.sleep(_POLL)
            if self._ticket.age > _ABANDONED_AFTER / 10:  # waiting is no reason to be passed over
                self._renew()
        self._renew()

    def check(self) -> None:
        if self._ticket.age > _ABANDONED_AFTER or self._run_id not in self._tickets():
            raise TrackingError(
                f"this run stood still for {_ABANDONED_AFTER / 60:.0f} minutes, and others may "
                f"have changed {self._name} since: it has changed nothing; run the step again"
            )

    def leave(self, run_id: str) -> None:
        try:
            self._client.delete_registered_model_tag(self._name, _TICKET + run_id)
        except MlflowException as error:
            if error.error_code != _GONE:
                raise

    def _ahead(self) -> tuple[str, _Ticket] | None:
        """Return a run whose turn comes before ours, or may come: it has no number yet."""
        ours = (self._ticket.number, self._run_id)
        tickets = self._tickets()
        tickets.pop(self._run_id, None)
        ahead = {run: each for run, each in tickets.items() if (each.number, run) < ours}
        return min(ahead.items(), key=lambda item: (item[1].number, item[0]), default=None)

    def _why_abandoned(self, run_id: str, ticket: _Ticket) -> str | None:
        try:
            status = self._client.get_run(run_id).info.status
        except MlflowException as error:
            if error.error_code != _GONE:
                raise
            status = "deleted"
        if status != "RUNNING":
            return f"being {status}"
        if ticket.age > _ABANDONED_AFTER:
            return f"{ticket.age / 60:.0f} minutes ago"
        return None

    def _tickets(self) -> dict[str, _Ticket]:
        tags = self._client.get_registered_model(self._name).tags
        return {
            name.removeprefix(_TICKET): _Ticket.read(text)
            for name, text in tags.items()
            if name.startswith(_TICKET)
        }

    def _renew(self) -> None:
        """Start the ticket's time anew, unless others may have torn it up (after a standstill)."""
        self.check()
        self._show(_Ticket(self._ticket.number, time.time(), self._ticket.host))

    def _show(self, ticket: _Ticket) -> None:
        self._client.set_registered_model_tag(self._name, _TICKET + self._run_id, ticket.write())
        self._ticket = ticket


@contextmanager
def _alone_in_folder(uri: str, name: str) -> Iterator[None]:
    """Keep other processes out of a folder store, which is read while others write in it.

    MLflow lists the files of such a store first and opens them next, and fails where one is gone by
    then. Databases and servers need none of this.
    """
    if not uri.startswith("file:"):
        yield
        return
    folder = Path(url2pathname(urlsplit(uri).path))
    try:
        with FileLock(folder / f".{name}.lock", timeout=_PATIENCE):
            yield
    except Timeout:
        raise TrackingError(
            f"{name} is still being changed by another run in {folder}: start again when it is done"
        ) from None


def find_judged_run(client: mlflow.MlflowClient, experiment_id: str, run_id: str) -> StepRun:
    """Return a finished evaluate run that the gate has judged.

    Parameters
    ----------
    client : MlflowClient
    experiment_id : str
        Where to look for the newest.
    run_id : str
        ``latest``, or a run ID.

    Raises
    ------
    TrackingError
        If there is none, or the run is of another step, did not finish, was deleted or was never
        judged.
    """
    run = find_step_run(client, experiment_id, "evaluate", run_id)
    if client.get_run(run.run_id).info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise TrackingError(
            f"evaluate run {run.run_id} was deleted: restore it with `mlflow runs restore "
            f"--run-id {run.run_id}`, or evaluate the model again"
        )
    missing = [name for name in ("gate", "model_uri", "train_run_id") if name not in run.tags]
    if missing:
        raise TrackingError(
            f"evaluate run {run.run_id} has no {', '.join(missing)} tag, so nobody knows whether "
            "its model may be promoted: evaluate it again with `mlflow run . -e evaluate"
            + (
                f" -P train_run_id={run.tags['train_run_id']}`"
                if "train_run_id" in run.tags
                else "`"
            )
        )
    return run


def read_table(run: StepRun, file_name: str) -> pd.DataFrame:
    """Return a Parquet artifact of a run.

    Raises
    ------
    TrackingError
        If it is gone or unreadable.
    """
    with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
        try:
            path = download_artifacts(
                artifact_uri=f"{run.artifact_uri}/{file_name}", dst_path=folder
            )
            return pd.read_parquet(Path(path))
        except (MlflowException, OSError, ValueError, pa.ArrowException) as error:
            raise TrackingError(
                f"run {run.run_id} has lost its {file_name}: run the step again"
            ) from error


def now() -> str:
    """Return the time, as it is written on versions: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version_of(found: Any) -> ModelVersion:
    return ModelVersion(
        name=str(found.name),
        number=int(found.version),
        source=str(found.source),
        run_id=found.run_id or None,
        tags=dict(found.tags),
    )


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Put what the registry refuses into one line."""
    try:
        yield
    except MlflowException as error:
        raise TrackingError(
            f"the model registry was asked {what} and refused: {first_line(error)}"
        ) from error
