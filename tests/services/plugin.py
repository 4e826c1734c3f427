"""The servers as fixtures: each starts when a test first asks for it, once per test process.

pytest imports this before it knows which tests it is to run, so clients of databases and clouds,
and MLflow, are imported by the fixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.sqlite import place_database
from services.tracking_server import TrackingServer, tracking_server

if TYPE_CHECKING:
    from services.backends import Backend
    from services.gcs import Gcs
    from services.postgres import Postgres
    from services.s3 import S3

THROUGH_THE_SERVER = "mlflow-artifacts:/0"


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL, empty: ``create_database()`` makes what a test needs."""
    from services.postgres import postgres

    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """S3, empty: ``create_bucket()`` makes what a test needs."""
    from services.s3 import s3

    with s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gcs]:
    """GCS, empty: ``create_bucket()`` makes what a test needs."""
    from services.gcs import gcs

    with gcs(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture(scope="session")
def server_on_sqlite(
    migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrackingServer]:
    """A tracking server with a database and an artifact folder of its own; it asks nobody."""
    home = tmp_path_factory.mktemp("server")
    place_database(migrated_database, home, artifacts=THROUGH_THE_SERVER)
    with tracking_server(home, backend_store_uri=f"sqlite:///{home}/mlflow.db") as server:
        yield server


@pytest.fixture(scope="session")
def server_with_users(
    migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrackingServer]:
    """The same, for an admin, a reader and a writer, who have passwords."""
    home = tmp_path_factory.mktemp("server-users")
    place_database(migrated_database, home, artifacts=THROUGH_THE_SERVER)
    store = f"sqlite:///{home}/mlflow.db"
    with tracking_server(home, backend_store_uri=store, users=True) as server:
        yield server


@pytest.fixture(scope="session")
def server_on_postgres(
    postgres_server: Postgres, s3_server: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrackingServer]:
    """A tracking server on PostgreSQL and S3, whose keys it alone has."""
    with tracking_server(
        tmp_path_factory.mktemp("server-postgres"),
        backend_store_uri=postgres_server.create_database(artifacts=THROUGH_THE_SERVER),
        artifacts_destination=f"s3://{s3_server.create_bucket()}",
        environment=s3_server.environment(),
    ) as server:
        yield server


@pytest.fixture(scope="session")
def open_backend(
    request: pytest.FixtureRequest,
    migrated_database: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Backend]:
    """Return a function that opens one of BACKENDS by name, as new where that costs little.

    Databases, folders and buckets are new each time, tracking servers are shared: record in an
    experiment of your own there.
    """
    from services.backends import FACTORIES, Services

    services = Services(
        new_folder=lambda: tmp_path_factory.mktemp("backend"),
        migrated=migrated_database,
        fixture=request.getfixturevalue,
    )
    return lambda name: FACTORIES[name](services)


@pytest.fixture
def backend(
    request: pytest.FixtureRequest,
    open_backend: Callable[[str], Backend],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Backend]:
    """One of BACKENDS, named by ``parametrize(..., indirect=True)``; this process may use it, too.

    Whatever the test did to it, the next one finds it running.
    """
    opened = open_backend(request.param)
    for name, value in opened.environment.items():
        monkeypatch.setenv(name, value)
    yield opened
    if opened.server is not None:
        opened.server.ensure_running()
