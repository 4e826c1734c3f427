"""What the tests of the tracking room share: a real server, and three stores to record in."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 180.0  # seconds a server may take to start on a loaded machine


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="session")
def server(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server with a database and an artifact folder of its own."""
    home = tmp_path_factory.mktemp("server")
    shutil.copy(migrated_database, home / "mlflow.db")
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"),
        *("--artifacts-destination", str(home / "artifacts")),
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=home,
            env=kept
            | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, home / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"no server at {address}:\n{log.read_text()}")


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
