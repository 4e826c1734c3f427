"""Opening a store: whatever is wrong with it, one clear error, and soon."""

import itertools
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import psycopg
import pytest
import sqlalchemy
from answers import answering
from services.gcs import Gcs
from services.postgres import Postgres
from services.s3 import S3
from services.server import undecided_environment

from steps.tracking import stores
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.reachable import (
    find_artifact_trouble,
    find_trouble,
    why_artifacts_away,
    why_away,
)
from steps.tracking.settings import load_settings
from steps.tracking.stores import (
    ArtifactsRefusedError,
    TrackingError,
    absolute_uri,
    check_artifacts,
    find_or_create_experiment,
    look_up,
    open_store,
    use_tracking_uri,
)

pytestmark = pytest.mark.slow

YESTERDAY = "0584bdc529eb"
"""A revision of MLflow's schema from long ago."""


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
    def become(version: str) -> str:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        return error_of("sqlite:///mlflow.db")

    assert "of a newer MLflow than this" in become("from_tomorrow")
    older = become(YESTERDAY)
    assert "out-of-date database schema" in older
    assert f"take a backup, then run `mlflow db upgrade sqlite:///{database}`" in older


def test_a_database_of_an_older_mlflow_is_left_as_it_is(database: Path) -> None:
    # MLflow itself would upgrade it without a word, since one of its tables is missing.
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (YESTERDAY,))
        connection.execute("DROP TABLE logged_model_tags")
    content = database.read_bytes()
    assert "`mlflow db upgrade" in error_of("sqlite:///mlflow.db")
    assert database.read_bytes() == content


def contents_of(database: Path) -> list[list[str]]:
    """Return the words of all statements, sorted: MLflow makes indexes in any order."""
    with closing(sqlite3.connect(database)) as connection:
        dumped = [re.sub(r"\b\d{13}\b", "NOW", line) for line in connection.iterdump()]
    return sorted(sorted(re.split(r"[\s,();]+", line)) for line in dumped)


def test_a_new_database_is_what_mlflow_makes(in_empty_folder: Path) -> None:
    open_store(f"sqlite:///{in_empty_folder}/ours.db")
    mlflow.MlflowClient(f"sqlite:///{in_empty_folder}/theirs.db").search_experiments()
    ours, theirs = contents_of(Path("ours.db")), contents_of(Path("theirs.db"))
    assert ours == theirs
    assert len(ours) > 50


@contextmanager
def stopped_at_statement(number: int) -> Iterator[None]:
    """Interrupt whoever executes this many statements, as Ctrl-C does."""
    numbers = itertools.count(1)

    def stop(*_: object) -> None:
        if next(numbers) == number:
            raise KeyboardInterrupt

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", stop)


@pytest.mark.parametrize("number", [50, 100, 200, 300])
def test_a_stop_while_a_database_is_made_does_not_damage_it(
    in_empty_folder: Path, number: int
) -> None:
    uri = absolute_uri("sqlite:///mlflow.db")
    with stopped_at_statement(number):
        open_store(uri)
    assert open_store(uri).get_experiment("0").name == "Default"


def test_a_database_whose_making_mlflow_was_stopped_in(in_empty_folder: Path) -> None:
    uri = absolute_uri("sqlite:///mlflow.db")
    with stopped_at_statement(300):
        mlflow.MlflowClient(uri)
    database = in_empty_folder / "mlflow.db"
    message = error_of(uri)
    assert "its making was interrupted" in message
    assert message.endswith(f"delete {database}: nothing was ever recorded in it")


def test_what_else_is_in_a_sqlite_file_stays_there(in_empty_folder: Path) -> None:
    with closing(sqlite3.connect("mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE mine AS SELECT 7 AS number")
    open_store(absolute_uri("sqlite:///mlflow.db"))
    with closing(sqlite3.connect("mlflow.db")) as connection:
        assert connection.execute("SELECT number FROM mine").fetchall() == [(7,)]
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]


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
        assert re.match(
            rf"the tracking store {absolute_uri(uri)} cannot be opened(:| \().*"
            "set MLFLOW_TRACKING_URI to another one",
            message,
        )


def test_unknown_kinds_of_store() -> None:
    assert "unsupported URI" in error_of("mongodb://localhost/x")
    message = error_of("mysql+nodriver://quant:s3cr3t@127.0.0.1/x")
    assert "nodriver" in message
    assert "s3cr3t" not in message


def test_a_store_that_does_not_answer() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]  # bound, but nobody listens
        server = error_of(f"http://quant:s3cr3t@127.0.0.1:{port}")
        database = error_of(f"postgresql://quant:s3cr3t@127.0.0.1:{port}/runs")
    assert server.startswith(
        f"the tracking server http://quant:***@127.0.0.1:{port} does not answer (connection "
        "refused): "
    )
    assert "make server" in server
    assert database.startswith(
        f"the tracking store postgresql://quant:***@127.0.0.1:{port}/runs does not answer "
        "(connection refused)"
    )
    assert "MLFLOW_POSTGRES_URI" in database


def test_a_server_that_wants_a_password() -> None:
    with answering(401, "") as address:
        message = error_of(address.replace("://", "://quant:s3cr3t@"))
    assert "refuses (error 401: it does not accept this user and password): correct" in message
    assert "s3cr3t" not in message


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
    odd = find_or_create_experiment(client, "AAPL #1? a/b", load_settings())
    assert client.get_experiment(odd).artifact_location == "s3://models/AAPL %231%3F a%2Fb"
    run = client.create_run(odd)
    assert run.info.artifact_uri == f"s3://models/AAPL %231%3F a%2Fb/{run.info.run_id}/artifacts"


def test_artifacts_that_cannot_be_stored(in_empty_folder: Path) -> None:
    check_artifacts(str(in_empty_folder / "not" / "yet"), "sqlite:///mlflow.db")
    Path("file").touch()
    with pytest.raises(ArtifactsRefusedError, match=r"in .*/file/1 \(.*/file is no folder\): make"):
        check_artifacts((in_empty_folder / "file" / "1").as_uri(), "sqlite:///mlflow.db")
    with pytest.raises(ArtifactsRefusedError, match=r"is none\): set MLFLOW_TRACKING_URI to the s"):
        check_artifacts("mlflow-artifacts:/1", "sqlite:///mlflow.db")


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
import os, sys
from steps.tracking.stores import open_store

start, signal = os.pipe()
children = []
for rank in range(4):  # processes that have imported MLflow already, which takes most of the time
    if child := os.fork():
        children.append(child)
        continue
    os.close(signal)
    os.read(start, 1)  # until all are there
    try:
        client = open_store(os.environ["STORE"])
        client.log_metric(client.create_run("0").info.run_id, "rank", rank)
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr)
        os._exit(1)
    os._exit(0)
os.close(signal)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_four_processes_open_a_fresh_database_at_once(
    kind: str, in_empty_folder: Path, request: pytest.FixtureRequest
) -> None:
    uri = f"sqlite:///{in_empty_folder}/mlflow.db"
    if kind == "postgresql":
        uri = request.getfixturevalue("postgres_server").create_database(migrated=False)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_CONTACT],
        env={
            **undecided_environment(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": str(Path(stores.__file__).parents[2]),
            "STORE": uri,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    runs = open_store(uri).search_runs(["0"])
    assert sorted(run.data.metrics["rank"] for run in runs) == [0, 1, 2, 3]


@pytest.mark.slow
def test_postgresql_says_what_is_wrong_and_what_to_do(postgres_server: Postgres) -> None:
    uri, password = postgres_server.create_database(), postgres_server.password
    login = "correct user and password in MLFLOW_POSTGRES_URI"
    for wrong, reason, remedy in (
        (uri.replace(password, "s3cr3t-s3cr3t"), "password authentication failed", login),
        (uri.replace(f":{password}", ""), "no password supplied", login),
        (uri.replace("postgres:", "quant:"), 'failed for user "quant"', login),
        (f"{uri}_of_nobody", "does not exist", "create it (`createdb`)"),
        (f"{uri}?colour=blue", "invalid connection option", "correct MLFLOW_POSTGRES_URI"),
    ):
        message = error_of(wrong)
        assert " refuses (" in message
        assert reason in message
        assert remedy in message
        assert password not in message
        assert "s3cr3t" not in message
    assert why_away(f"{uri}_of_nobody") is None  # it answers


@pytest.mark.slow
def test_postgresql_with_the_schema_of_another_mlflow(postgres_server: Postgres) -> None:
    uri = postgres_server.create_database()
    for version, told in ((YESTERDAY, "`mlflow db upgrade postgresql://"), ("x", "a newer MLflow")):
        with psycopg.connect(uri) as connection:
            connection.execute("UPDATE alembic_version SET version_num = %s", (version,))
        message = error_of(uri)
        assert told in message
        assert postgres_server.password not in message


@pytest.mark.slow
def test_postgresql_that_goes_away(postgres_server: Postgres) -> None:
    uri = postgres_server.create_database()
    open_store(uri)
    try:
        postgres_server.pause()
        silent = find_trouble(uri)
        assert silent
        assert silent.away
        assert silent.reason in ("connection timeout expired", "no answer within 2.5 s")
        assert "see that it runs" in silent.remedy
        postgres_server.resume()
        assert why_away(uri) is None
        postgres_server.stop()
        assert "does not answer (connection refused)" in error_of(uri)
    finally:
        postgres_server.ensure_running()
    open_store(uri).search_experiments()


@pytest.mark.slow
def test_a_bucket_says_what_is_wrong_and_what_to_do(
    s3_server: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3_server.create_bucket()
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)

    def error(name: str = bucket) -> str:
        with pytest.raises(ArtifactsRefusedError) as caught:
            check_artifacts(f"s3://{name}/stocks", "postgresql://db/runs")
        return str(caught.value)

    check_artifacts(f"s3://{bucket}/stocks", "postgresql://db/runs")
    assert s3_server.names(bucket) == []
    assert "NoSuchBucket" in error("nobodys")
    assert "create the bucket, or name another one in MLFLOW_S3_BUCKET" in error("nobodys")
    for name, value in s3_server.read_only_environment().items():
        monkeypatch.setenv(name, value)
    assert "AccessDenied" in error()
    assert "give these keys the right to read and write the bucket" in error()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t-s3cr3t")
    assert "SignatureDoesNotMatch" in error()
    assert "correct AWS_SECRET_ACCESS_KEY" in error()
    assert "s3cr3t" not in error()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    assert "correct AWS_ACCESS_KEY_ID" in error()
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", "/nowhere")
    assert "(no keys): set AWS_ACCESS_KEY_ID" in error()
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    assert why_artifacts_away("s3://nobodys/stocks", "postgresql://db/runs") is None  # it answers
    try:
        s3_server.pause()
        silent = find_artifact_trouble(f"s3://{bucket}", "postgresql://db/runs")
        assert silent
        assert silent.away
        assert "no answer" in silent.reason
        assert "MLFLOW_S3_ENDPOINT_URL" in silent.remedy
        s3_server.stop()
        assert "connection refused" in error()
        assert why_artifacts_away(f"s3://{bucket}", "postgresql://db/runs")
    finally:
        s3_server.ensure_running()


@pytest.mark.slow
def test_a_bucket_of_google(gcs_server: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = gcs_server.create_bucket()
    for name, value in gcs_server.environment().items():
        monkeypatch.setenv(name, value)
    check_artifacts(f"gs://{bucket}/stocks", "postgresql://db/runs")
    assert gcs_server.names(bucket) == []
    with pytest.raises(ArtifactsRefusedError, match=r"no bucket nobodys\): .* MLFLOW_GCS_BUCKET"):
        check_artifacts("gs://nobodys/stocks", "postgresql://db/runs")
    try:
        gcs_server.stop()
        assert why_artifacts_away(f"gs://{bucket}", "postgresql://db/runs") == "connection refused"
    finally:
        gcs_server.ensure_running()
