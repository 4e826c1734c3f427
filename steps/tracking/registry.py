"""MLflow's model registry: versions, and the aliases that say which one counts.

It moves an alias without asking where it points, so whoever moves one takes a turn first: see
:mod:`steps.tracking.turns`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

import mlflow
from mlflow.exceptions import MlflowException
from pydantic import StringConstraints, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from steps.tracking.stores import TrackingError, first_line

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
_DESCRIPTION_LENGTH: Final = 5000  # characters; the registry's own limit
CROWNED: Final = "champion_since"
"""The tag of a version that is, or was, champion."""
GONE: Final = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's error code for what is not there."""


def _explain_name(value: Any, check: ValidatorFunctionWrapHandler) -> str:
    try:
        return str(check(value))
    except ValidationError:
        raise ValueError(
            "expected letters, digits and _, with spaces, dots and hyphens between them, "
            "200 characters at most"
        ) from None


ModelName = Annotated[
    str,
    StringConstraints(pattern=r"^\w([\w .-]*\w)?$", max_length=200),
    WrapValidator(_explain_name),
]
"""A registered model's name: what every store keeps, and can be asked for."""


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
    def link(self) -> str:
        """A link to its page in the UI, for a run's or version's description."""
        return f"[version {self.number}](#/models/{quote(self.name)}/versions/{self.number})"

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
        See `ModelName`.
    """

    def __init__(self, client: mlflow.MlflowClient, name: str) -> None:
        self.client = client
        self.name = name

    def create(self) -> None:
        """Make the name known, unless it is."""
        with asking(f"to create the registered model {self.name!r}"):
            try:
                self.client.create_registered_model(self.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS" or self._is_of_something_else():
                    raise

    def _is_of_something_else(self) -> bool:
        """Whether the name is taken, but by no model: prompts have names in the same register."""
        try:
            self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != GONE:
                raise
            return True
        return False

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
            if error.error_code != GONE:
                raise TrackingError(
                    f"the model registry does not answer: {first_line(error)}"
                ) from error
            with asking("to list its models"):
                known = ", ".join(
                    sorted(each.name for each in self.client.search_registered_models())
                )
            raise TrackingError(
                f"there is no registered model {self.name!r} in this store; there are: "
                f"{known or 'none'}. `mlflow run . -e promote` registers one"
            ) from None

    def champion(self) -> ModelVersion | None:
        """Return the version behind the alias ``champion``."""
        with asking(f"for the champion of {self.name!r}"):
            number = self._aliases().get(CHAMPION)
            return None if number is None else self._version(number)

    def past_champions(self) -> list[ModelVersion]:
        """Return the versions that were champion once and were not deleted, the latest last."""
        with asking(f"for the versions of {self.name!r}"):
            found = [_version_of(each) for each in self._search()]
        crowned = [each for each in found if CROWNED in each.tags]
        return sorted(crowned, key=lambda each: (each.tags[CROWNED], each.number))

    def versions(self) -> list[int]:
        """Return the numbers of all versions that were not deleted."""
        with asking(f"for the versions of {self.name!r}"):
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
        with asking(f"for version {number} of {self.name!r}"):
            return self._version(number)

    def register(self, model_uri: str) -> ModelVersion:
        """Return the version made from a model; the first time, make it.

        To be called in one's turn, or two runs may both find none.
        """
        with asking(f"to register {model_uri} as a version of {self.name!r}"):
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
        with asking(f"to write on version {number} of {self.name!r}"):
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

        Where this is interrupted, it can be done again, and :meth:`complete` does what is left.

        Parameters
        ----------
        version : ModelVersion
        former : sequence of int
            The versions to go back to from it, the nearest last. They are written down before the
            alias moves: a champion that does not say whom it replaced has no way back.
        """
        self._end_challenge(version)
        self.describe(
            version.number,
            replaces=former[-1] if former else "none",
            former_champions=" ".join(map(str, former)),
        )
        with asking(f"to make version {version.number} of {self.name!r} the champion"):
            self.client.set_registered_model_alias(self.name, CHAMPION, str(version.number))
        self._date_reign(version)

    def complete(self, champion: ModelVersion) -> None:
        """Do what an interrupted :meth:`crown` has left undone, if anything."""
        self._end_challenge(champion)
        if CROWNED not in champion.tags or "rolled_back_by" in champion.tags:
            self._date_reign(champion)

    def _end_challenge(self, version: ModelVersion) -> None:
        with asking(f"to end the challenge of version {version.number} of {self.name!r}"):
            if self._aliases().get(CHALLENGER) == version.number:
                self.client.delete_registered_model_alias(self.name, CHALLENGER)

    def _date_reign(self, version: ModelVersion) -> None:
        began = {CROWNED: now()}
        self.describe(version.number, rolled_back_by=None, rolled_back_at=None, **began)

    def challenge(self, version: ModelVersion) -> None:
        """Move ``challenger`` to a version."""
        if "replaces" not in version.tags:
            self.describe(version.number, replaces="none")
        with asking(f"to make version {version.number} of {self.name!r} the challenger"):
            self.client.set_registered_model_alias(self.name, CHALLENGER, str(version.number))

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
def asking(what: str) -> Iterator[None]:
    """Put what the registry refuses into one line."""
    try:
        yield
    except MlflowException as error:
        raise TrackingError(
            f"the model registry was asked {what} and refused: {first_line(error)}"
        ) from error
