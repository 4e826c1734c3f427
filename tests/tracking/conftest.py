"""What the tests of the tracking room share: a real server, and three stores to record in."""

import shutil
from pathlib import Path

import pytest
from services.tracking_server import TrackingServer


@pytest.fixture(scope="session")
def server(server_on_sqlite: TrackingServer) -> str:
    """The address of a tracking server with a database and an artifact folder of its own."""
    return server_on_sqlite.uri


@pytest.fixture(scope="session")
def shared_database(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database for tests that do not mind the runs of others: opening one takes time."""
    path = tmp_path_factory.mktemp("shared") / "mlflow.db"
    shutil.copy(migrated_database, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "file", pytest.param("server", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, in_empty_folder: Path) -> str:
    """A tracking URI of each kind in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("shared_database"))
    if request.param == "file":
        return "file:./mlruns"
    return str(request.getfixturevalue("server"))
