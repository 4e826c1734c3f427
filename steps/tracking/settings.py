"""Where runs, artifacts and models go: environment over ``.env`` over these defaults."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


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
        ``remote`` takes the two settings below.
    MLFLOW_POSTGRES_URI : SecretStr or None
        Database of the ``remote`` backend; never printed, it may hold a password.
    MLFLOW_S3_BUCKET : str or None
        Bucket in which the ``remote`` backend keeps the artifacts of experiments it creates.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, case_sensitive=True, env_ignore_empty=True
    )

    MLFLOW_TRACKING_URI: str | None = Field(default=None, repr=False)
    MLFLOW_EXPERIMENT_NAME: str = "stock_prediction"
    MLFLOW_BACKEND: Literal["local", "remote"] = "local"
    MLFLOW_POSTGRES_URI: SecretStr | None = None
    MLFLOW_S3_BUCKET: str | None = None

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
        if self.MLFLOW_BACKEND == "remote" and self.MLFLOW_S3_BUCKET:
            return f"s3://{self.MLFLOW_S3_BUCKET.removeprefix('s3://').strip('/')}"
        return None


def load_settings() -> Settings:
    """Read the settings from the environment and ``.env``.

    Raises
    ------
    SettingsError
        If a variable has a value that is not allowed, which the message names, or if ``.env`` is
        not text.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        value = redact(repr(first["input"]))
        raise SettingsError(f"setting {name}={value}: {first['msg']}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f".env is not UTF-8 text: {error}") from None


def redact(text: str) -> str:
    """Hide the passwords of all URIs in a text.

    Examples
    --------
    >>> redact("no route to postgresql://quant:s3cret@db.example/mlflow")
    'no route to postgresql://quant:***@db.example/mlflow'
    """
    # A password ends at the last @: it may itself hold @, / and : where nobody encoded them.
    return re.sub(r"(?<=://)([^\s:/]*):\S*@", r"\1:***@", text)
