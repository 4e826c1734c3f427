"""The places a run can be recorded in, as real servers: what a client needs to know of each."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow

from services.gcs import Gcs
from services.postgres import Postgres
from services.s3 import S3
from services.server import Server
from services.sqlite import place_database
from services.tracking_server import TrackingServer


@dataclass(frozen=True)
class Bucket:
    """Where artifacts end up, seen from behind."""

    server: S3 | Gcs
    name: str

    def names(self) -> list[str]:
        """Return the names of all objects."""
        return self.server.names(self.name)

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        return self.server.read(self.name, name)

    def write(self, name: str, content: bytes) -> None:
        """Write an object, over the former one."""
        self.server.write(self.name, name, content)


@dataclass(frozen=True)
class Backend:
    """A place to record in.

    Attributes
    ----------
    name : str
        One of BACKENDS.
    environment : dict of str to str
        All that a client process needs in its environment to record here.
    uri : str
        The tracking URI that this environment comes to; with a login, where one is needed.
    server : Server or None
        What may go away: the tracking server or PostgreSQL. A file has none.
    artifacts : Bucket or None
        The bucket in which artifacts end up, if it is one.
    """

    name: str
    environment: dict[str, str] = field(repr=False)
    uri: str = field(repr=False)
    server: Server | None = None
    artifacts: Bucket | None = None

    def client(self) -> mlflow.MlflowClient:
        """Return a client for looking at what was recorded, in this process."""
        if self.uri.startswith("file:"):  # MLflow wants to be asked for it twice
            os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        return mlflow.MlflowClient(self.uri)

    def stop(self) -> None:
        """Let the store go away."""
        self._away().stop()

    def start(self) -> None:
        """Let the store come back, as it was."""
        self._away().start()

    def pause(self) -> None:
        """Let the store be silent."""
        self._away().pause()

    def resume(self) -> None:
        """Let the store answer again."""
        self._away().resume()

    def _away(self) -> Server:
        if self.server is None:
            raise ValueError(f"{self.name} is no server: it cannot go away")
        return self.server


class Services:
    """What the factories below build on: servers, which start when they are asked for."""

    def __init__(
        self, new_folder: Callable[[], Path], migrated: Path, fixture: Callable[[str], Any]
    ) -> None:
        self.new_folder = new_folder
        self.migrated = migrated
        self._fixture = fixture

    @property
    def postgres(self) -> Postgres:
        return self._fixture("postgres_server")

    @property
    def s3(self) -> S3:
        return self._fixture("s3_server")

    @property
    def gcs(self) -> Gcs:
        return self._fixture("gcs_server")

    def tracking_server(self, kind: str) -> TrackingServer:
        return self._fixture(f"server_{kind}")


def sqlite(services: Services) -> Backend:
    """Return a database of its own, in a folder of its own."""
    folder = place_database(services.migrated, services.new_folder())
    return _at("sqlite", f"sqlite:///{folder}/mlflow.db")


def file(services: Services) -> Backend:
    """Return a folder of its own, not there yet."""
    return _at("file", (services.new_folder() / "mlruns").as_uri())


def server(services: Services) -> Backend:
    """Return the server without passwords, which others use, too."""
    tracking = services.tracking_server("on_sqlite")
    return _at("server", tracking.uri, server=tracking)


def server_auth(services: Services) -> Backend:
    """Return the server with users, as the one who may write."""
    tracking = services.tracking_server("with_users")
    login = tracking.environment_of("writer")
    user, password = login.values()
    return Backend(
        name="server+auth",
        environment={"MLFLOW_TRACKING_URI": tracking.uri, **login},
        uri=tracking.uri.replace("://", f"://{user}:{password}@"),
        server=tracking,
    )


def server_postgres_s3(services: Services) -> Backend:
    """Return the server that alone has the keys to database and bucket."""
    tracking = services.tracking_server("on_postgres")
    bucket = Bucket(services.s3, tracking.artifacts_destination.removeprefix("s3://"))
    return _at("server+postgres+s3", tracking.uri, server=tracking, artifacts=bucket)


def postgres_s3(services: Services) -> Backend:
    """Return a database and a bucket of its own."""
    bucket = services.s3.create_bucket()
    environment = {**services.s3.environment(), "MLFLOW_S3_BUCKET": bucket}
    return _remote("postgres+s3", services.postgres, environment, Bucket(services.s3, bucket))


def postgres_gcs(services: Services) -> Backend:
    """Return a database and a bucket of its own."""
    bucket = services.gcs.create_bucket()
    environment = {**services.gcs.environment(), "MLFLOW_GCS_BUCKET": bucket}
    return _remote("postgres+gcs", services.postgres, environment, Bucket(services.gcs, bucket))


def _at(name: str, uri: str, **more: Any) -> Backend:
    return Backend(name=name, environment={"MLFLOW_TRACKING_URI": uri}, uri=uri, **more)


def _remote(name: str, server: Postgres, environment: dict[str, str], bucket: Bucket) -> Backend:
    uri = server.create_database()
    return Backend(
        name=name,
        environment={"MLFLOW_BACKEND": "remote", "MLFLOW_POSTGRES_URI": uri, **environment},
        uri=uri,
        server=server,
        artifacts=bucket,
    )


FACTORIES: dict[str, Callable[[Services], Backend]] = {
    "sqlite": sqlite,
    "file": file,
    "server": server,
    "server+auth": server_auth,
    "server+postgres+s3": server_postgres_s3,
    "postgres+s3": postgres_s3,
    "postgres+gcs": postgres_gcs,
}
BACKENDS = tuple(FACTORIES)
