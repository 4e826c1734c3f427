"""Opening a store: whatever is wrong with it, one clear error, and soon."""

import base64
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest

from steps.tracking import stores
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.settings import load_settings
from steps.tracking.stores import (
    TrackingError,
    absolute_uri,
    find_or_create_experiment,
    look_up,
    open_store,
    use_tracking_uri,
)


def error_of(uri: str) -> str:
    with pytest.raises(TrackingError) as caught:
        open_store(absolute_uri(uri))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_relative_uris_are_tied_to_the_working_folder(in_empty_folder: Path) -> None:
    here = in_empty_folder
    assert absolute_uri("sqlite:///mlflow.db") == f"sqlite:///{here}/mlflow.db"
    assert absolute_uri(f"sqlite:///{here}/mlflow.db") == f"sqlite:///{here}/mlflow.db"
    assert absolute_uri("file:./mlruns") == f"file://{here}/mlruns"
    assert absolute_uri("file:mlruns") == f"file://{here}/mlruns"
    assert absolute_uri("file:///data/mlruns") == "file:///data/mlruns"
    for uri in ("sqlite:///:memory:", "http://localhost:5000", "postgresql://db/x", "databricks"):
        assert absolute_uri(uri) == uri


@pytest.mark.parametrize("uri", ["file:./a b/é#1", "sqlite:///a b/é#1.db"])
def test_an_absolute_uri_stays_as_it_is(uri: str) -> None:
    once = absolute_uri(uri)
    assert absolute_uri(once) == once


def test_folders_with_odd_names_hold_a_store(database: Path, in_empty_folder: Path) -> None:
    odd = in_empty_folder / "Kurse & Läufe 100%"
    odd.mkdir()
    database.rename(odd / "my runs.db")
    for uri in (f"sqlite:///{odd}/my runs.db", f"file:{odd}/mlruns"):
        with (
            MLflowLogger("x", tracking_uri=uri) as parent,
            MLflowLogger() as child,  # finds the very same store
        ):
            child.log_params(a=1)
        run = open_store(absolute_uri(uri)).get_run(child.run_id)
        assert run.data.params == {"a": "1"}
        assert run.data.tags["mlflow.parentRunId"] == parent.run_id
    assert {path.name for path in odd.iterdir()} == {"my runs.db", "my runs.db.lock", "mlruns"}


def test_use_tracking_uri_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    with use_tracking_uri("http://localhost:1"):
        assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"]
    assert not mlflow.tracking.is_tracking_uri_set()
    assert "MLFLOW_TRACKING_URI" not in os.environ

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:2")
    with pytest.raises(KeyError), use_tracking_uri("http://localhost:1"):
        raise KeyError
    assert mlflow.get_tracking_uri() == "http://localhost:2"


def test_a_file_that_is_no_database(in_empty_folder: Path) -> None:
    noise = bytes(range(256)) * 40
    Path("mlflow.db").write_bytes(noise)
    message = error_of("sqlite:///mlflow.db")
    assert "file is not a database" in message
    assert "MLFLOW_TRACKING_URI" in message
    assert Path("mlflow.db").read_bytes() == noise


def test_a_database_with_damaged_pages(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # the first page, which all readers see, lives
    database.write_bytes(content)
    assert "malformed" in error_of("sqlite:///mlflow.db")


def test_a_database_of_another_mlflow(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_tomorrow'")
    assert "out-of-date database schema" in error_of("sqlite:///mlflow.db")


def test_places_where_nothing_can_be_made(in_empty_folder: Path) -> None:
    # Permissions do not stop root; these places do.
    Path("file").touch()
    for uri in (
        "sqlite:///file/mlflow.db",
        "sqlite:////proc/mlflow.db",
        "sqlite:////dev/null/mlflow.db",
        f"sqlite:///{in_empty_folder}",
        "file:file/mlruns",
    ):
        message = error_of(uri)
        assert f"the tracking store {absolute_uri(uri)} cannot be opened: " in message


def test_unknown_kinds_of_store() -> None:
    assert "unsupported URI" in error_of("mongodb://localhost/x")
    message = error_of("mysql+nodriver://quant:s3cr3t@127.0.0.1/x")
    assert "nodriver" in message
    assert "s3cr3t" not in message


def test_a_closed_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]  # bound, but nobody listens
        message = error_of(f"http://quant:s3cr3t@127.0.0.1:{port}")
    assert f"http://quant:***@127.0.0.1:{port} does not answer" in message
    assert "Connection refused" in message
    assert "make ui" in message


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """Accept connections, and answer each with the same bytes, or never."""
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            kept.append(connection)
            if answer is not None:
                connection.recv(4096)
                connection.sendall(answer)
                connection.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in kept:
        connection.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(None, "timed out"), (b"", "without response"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0")],
    ids=["silence", "hanging up", "another protocol"],
)
def test_a_server_that_is_none(
    answer: bytes | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_SERVER_TIMEOUT", 0.2)
    with listening(answer) as port:
        message = error_of(f"http://127.0.0.1:{port}")
    assert "does not answer" in message
    assert reason in message


def test_a_server_that_wants_a_password() -> None:
    seen = []

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as guarded:
        thread = threading.Thread(target=guarded.serve_forever)
        thread.start()
        message = error_of(f"http://quant:s3cr3t@127.0.0.1:{guarded.server_port}")
        guarded.shutdown()
        thread.join()
    assert "401" in message
    assert "s3cr3t" not in message
    assert seen[-1] == "Basic " + base64.b64encode(b"quant:s3cr3t").decode()


def test_experiments_are_found_again(database: Path) -> None:
    client = open_store(absolute_uri("sqlite:///mlflow.db"))
    created = find_or_create_experiment(client, "stock_prediction", load_settings())
    assert find_or_create_experiment(client, "stock_prediction", load_settings()) == created


def test_the_remote_backends_experiments_keep_their_artifacts_in_the_bucket(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND", "remote")
    monkeypatch.setenv("MLFLOW_S3_BUCKET", "models")
    client = open_store(absolute_uri("sqlite:///mlflow.db"))
    created = find_or_create_experiment(client, "stocks", load_settings())
    assert client.get_experiment(created).artifact_location == "s3://models/stocks"


def test_a_deleted_experiment_says_how_to_bring_it_back(store: str) -> None:
    with MLflowLogger("gone", tracking_uri=store) as logger:
        experiment_id = logger.experiment_id
    client = open_store(absolute_uri(store))
    client.delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match=f"'gone' was deleted.*--experiment-id {experiment_id}"):
        MLflowLogger("gone", tracking_uri=store)
    assert mlflow.active_run() is None
    client.restore_experiment(experiment_id)
    with MLflowLogger("gone", tracking_uri=store) as logger:
        assert logger.experiment_id == experiment_id


@pytest.mark.slow
def test_the_command_that_brings_an_experiment_back(
    database: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    with MLflowLogger("gone") as logger:
        pass
    logger.client.delete_experiment(logger.experiment_id)
    with pytest.raises(TrackingError) as caught:
        MLflowLogger("gone")
    command = re.search(r"`mlflow (.*?)`", str(caught.value))
    assert command
    result = run_python(
        "-m", "mlflow", *shlex.split(command[1]), MLFLOW_TRACKING_URI="sqlite:///mlflow.db"
    )
    assert result.returncode == 0, result.stderr
    MLflowLogger("gone").end_run()


def test_looking_up_an_experiment(database: Path, in_empty_folder: Path) -> None:
    with MLflowLogger("momentum") as logger:
        pass
    client, experiment_id = look_up("momentum")
    assert experiment_id == logger.experiment_id
    assert client.get_run(logger.run_id).info.status == "FINISHED"
    with pytest.raises(TrackingError, match=r"no experiment 'momentun'; there are: .*momentum"):
        look_up("momentun")


FIRST_CONTACT = """
import sys, time
from pathlib import Path
from steps.tracking.mlflow_logger import MLflowLogger
Path(f"ready{sys.argv[1]}").touch()
while not Path("go").exists():
    time.sleep(0.01)
with MLflowLogger("together") as logger:
    logger.log_metrics(rank=int(sys.argv[1]))
"""


@pytest.mark.slow
def test_four_processes_open_a_fresh_database_at_once(in_empty_folder: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {"PYTHONPATH": str(Path(stores.__file__).parents[2])}
    environment |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FIRST_CONTACT, str(rank)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(4)
    ]
    while not all(Path(f"ready{rank}").exists() for rank in range(4)):
        assert all(process.poll() is None for process in processes)
    Path("go").touch()
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    client, experiment_id = look_up("together")
    assert experiment_id
    runs = client.search_runs([experiment_id])
    assert sorted(run.data.metrics["rank"] for run in runs) == [0, 1, 2, 3]
    assert {run.info.status for run in runs} == {"FINISHED"}
