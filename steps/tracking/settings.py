"""Where runs, artifacts and models go: environment over ``.env`` over these defaults."""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

_SECRET_VARIABLES: Final = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "DATABRICKS_TOKEN",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
)
_URI_VARIABLES: Final = (
    "MLFLOW_ARTIFACTS_DESTINATION",
    "MLFLOW_BACKEND_STORE_URI",
    "MLFLOW_POSTGRES_URI",
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_TRACKING_URI",
)
_SHORTEST_SECRET: Final = 6
"""Characters: what is shorter stands in too many words to be searched for by itself."""
_NO_SECRETS: Final = ("candlewick", "mlflow", "password", "postgres", "postgresql", "sqlite")
"""Passwords that are no secret, and words of our own messages."""


class SettingsError(ValueError):
    """A setting has a value Candlewick cannot work with."""


class Settings(BaseSettings):
    """The project's MLflow settings, one field per environment variable.

    Attributes
    ----------
    MLFLOW_TRACKING_URI : str or None
        Where runs are recorded. Unset: SQLite in the working directory (``local``), or
        ``MLFLOW_POSTGRES_URI`` (``remote``).
    MLFLOW_EXPERIMENT_NAME : str
        The experiment of runs that nobody put into another one.
    MLFLOW_BACKEND : {"local", "remote"}
        ``remote`` takes the settings below.
    MLFLOW_POSTGRES_URI : SecretStr or None
        Database of the ``remote`` backend; never printed, it may hold a password.
    MLFLOW_S3_BUCKET, MLFLOW_GCS_BUCKET : str or None
        Bucket, of either kind, in which the ``remote`` backend keeps the artifacts of experiments
        it creates.
    CANDLEWICK_STATE : Path or None
        Folder for what must outlive a run; unset: where this user's programs keep their state.
    CANDLEWICK_PATIENCE : float
        Seconds to wait for a store that went away, where a step cannot go on without it.
    CANDLEWICK_CACHE : Path or None
        Folder for snapshots that were downloaded; unset: where this user's programs keep such.
    CANDLEWICK_CACHE_SIZE : float
        GB that they may take; 0: none is kept.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, case_sensitive=True, env_ignore_empty=True
    )

    MLFLOW_TRACKING_URI: str | None = Field(default=None, repr=False)
    MLFLOW_EXPERIMENT_NAME: str = "stock_prediction"
    MLFLOW_BACKEND: Literal["local", "remote"] = "local"
    MLFLOW_POSTGRES_URI: SecretStr | None = None
    MLFLOW_S3_BUCKET: str | None = None
    MLFLOW_GCS_BUCKET: str | None = None
    CANDLEWICK_STATE: Path | None = None
    CANDLEWICK_PATIENCE: float = Field(default=3600.0, ge=0)
    CANDLEWICK_CACHE: Path | None = None
    CANDLEWICK_CACHE_SIZE: float = Field(default=10.0, ge=0)

    @property
    def tracking_uri(self) -> str:
        """The tracking URI these settings amount to.

        Raises
        ------
        SettingsError
            If the backend is ``remote`` and nothing says where it is.
        """
        if self.MLFLOW_TRACKING_URI:
            return self.MLFLOW_TRACKING_URI
        if self.MLFLOW_BACKEND == "local":
            return "sqlite:///mlflow.db"
        if self.MLFLOW_POSTGRES_URI is None:
            raise SettingsError(
                "MLFLOW_BACKEND=remote needs MLFLOW_POSTGRES_URI (postgresql://user:password@host/"
                "database) or MLFLOW_TRACKING_URI; found neither in the environment nor in .env"
            )
        return self.MLFLOW_POSTGRES_URI.get_secret_value()

    @property
    def artifact_root(self) -> str | None:
        """Where a new experiment's artifacts go; None leaves it to MLflow."""
        if self.MLFLOW_BACKEND == "remote":
            for scheme, bucket in (
                ("s3://", self.MLFLOW_S3_BUCKET),
                ("gs://", self.MLFLOW_GCS_BUCKET),
            ):
                if bucket:
                    return scheme + bucket.removeprefix(scheme).strip("/")
        return None


def load_settings() -> Settings:
    """Read the settings from the environment and ``.env``.

    Raises
    ------
    SettingsError
        If a variable has a value that is not allowed, which the message names, if two contradict
        each other, or if ``.env`` is not text.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        value = redact(repr(first["input"]))
        raise SettingsError(f"setting {name}={value}: {first['msg']}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f".env is not UTF-8 text: {error}") from None
    _remember(settings)
    both = settings.MLFLOW_S3_BUCKET and settings.MLFLOW_GCS_BUCKET
    if both and settings.MLFLOW_BACKEND == "remote":
        raise SettingsError(
            "MLFLOW_S3_BUCKET and MLFLOW_GCS_BUCKET are both set, and artifacts can only go to one "
            "of them: unset the other"
        )
    return settings


_GUARDED: Final = (
    r"(?:[\w-]*(?:password|passwd|passphrase|pwd|token|secret|signature|credentials?)"
    r"|(?:[\w-]*[_-])?key|[\w-]*accesskeyid|googleaccessid|apikey|pass|sig|auth|odbc_connect)"
)
_IN_QUERY: Final = re.compile(rf"(?<=[?&;])({_GUARDED})=[^&\s]+", re.IGNORECASE)
_IN_WORDS: Final = re.compile(
    r"(?<![A-Za-z0-9?&;])(password|passwd|pwd)=('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE
)
_IN_HEADER: Final = re.compile(r"(Authorization\W{1,4}(?:Basic|Bearer)) +[^\s'\"]+", re.IGNORECASE)
# A password ends at the last @: it may itself hold @, / and : where nobody encoded them.
_IN_ADDRESS: Final = re.compile(r"(?<=://)([^\s:/]*):(\S*)@(\S*)")
_HIDDEN: Final = "***"


def redact(text: str) -> str:
    """Hide passwords, tokens and signatures in a text.

    Those of all URIs, in front of their host and in their query, and, wherever they stand, those of
    the environment and of the settings.

    Examples
    --------
    >>> redact("no route to postgresql://quant:s3cret@db.example/mlflow?sslpassword=abc")
    'no route to postgresql://quant:***@db.example/mlflow?sslpassword=***'
    """
    for secret in sorted(_known_secrets(), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    text = _IN_ADDRESS.sub(_without_password, text)
    text = _IN_QUERY.sub(rf"\1={_HIDDEN}", text)
    text = _IN_HEADER.sub(rf"\1 {_HIDDEN}", text)
    return _IN_WORDS.sub(rf"\1={_HIDDEN}", text)


def _without_password(match: re.Match[str]) -> str:
    user, password, rest = match.groups()
    # Where the last @ is the query's, nobody knows which part of what follows is secret.
    if _IN_QUERY.search(password):
        rest = _HIDDEN
    return f"{user}:{_HIDDEN}@{rest}"


_remembered: set[str] = set()  # what .env told, which the environment does not


def _remember(settings: Settings) -> None:
    uris = [settings.MLFLOW_TRACKING_URI or ""]
    if settings.MLFLOW_POSTGRES_URI:
        uris.append(settings.MLFLOW_POSTGRES_URI.get_secret_value())
    _remembered.update(filter(None, map(_password, uris)))


def _known_secrets() -> set[str]:
    """Return the secrets that are known by name, in every form a message may give them."""
    told = {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    told |= {_password(os.environ.get(name, "")) for name in _URI_VARIABLES}
    forms = {
        form
        for secret in told | _remembered
        for plain in (secret, unquote(secret), unquote_plus(secret))
        for form in (
            *(plain, quote(plain), quote(plain, safe=""), quote_plus(plain)),
            *(repr(plain)[1:-1], json.dumps(plain)[1:-1], html.escape(plain)),
        )
    }
    return {form for form in forms if len(form) >= _SHORTEST_SECRET and form not in _NO_SECRETS}


def _password(uri: str) -> str:
    """Return the password in a URI as it stands there; empty where there is none."""
    found = re.search(r"://[^:/]*:(.*)@", uri, re.DOTALL)
    return found[1] if found else ""
