"""The servers are what the tests that use them take them for."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import botocore.exceptions
import mlflow
import psutil
import psycopg
import pytest
from mlflow.exceptions import MlflowException

from services.backends import Backend
from services.gcs import Gcs
from services.postgres import Postgres
from services.s3 import S3
from services.server import undecided_environment
from services.tracking_server import TrackingServer
from steps.tracking.settings import load_settings
from steps.tracking.stores import find_or_create_experiment, open_store

pytestmark = pytest.mark.thorough
TESTS = Path(__file__).resolve().parents[1]


def test_postgres_asks_for_passwords_and_keeps_no_readable_ones(postgres_server: Postgres) -> None:
    wrong = postgres_server.uri().replace(postgres_server.password, "wrong")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with psycopg.connect(postgres_server.uri()) as connection:
        kept = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolcanlogin").fetchall()
    assert [password.split("$")[0] for (password,) in kept] == ["SCRAM-SHA-256"]


def test_databases_are_apart_and_migrated_if_asked(postgres_server: Postgres) -> None:
    first, second = postgres_server.create_database(), postgres_server.create_database()
    mlflow.MlflowClient(first).create_experiment("only here")
    assert mlflow.MlflowClient(second).get_experiment_by_name("only here") is None
    with psycopg.connect(postgres_server.create_database(migrated=False)) as connection:
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        assert connection.execute(tables).fetchone() == (0,)


def test_postgres_goes_away_and_comes_back(postgres_server: Postgres) -> None:
    uri = postgres_server.create_database(migrated=False)
    with psycopg.connect(uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")

    postgres_server.stop()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(uri)
    postgres_server.start()

    postgres_server.pause()
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        psycopg.connect(uri, connect_timeout=2)
    postgres_server.resume()
    with psycopg.connect(uri) as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (42,)


def test_s3_lets_in_whoever_has_a_key(s3_server: S3) -> None:
    bucket = s3_server.create_bucket()
    s3_server.write(bucket, "name", b"content")
    reader = s3_server.read_only_environment()
    reading = s3_server.client(reader["AWS_ACCESS_KEY_ID"], reader["AWS_SECRET_ACCESS_KEY"])
    assert reading.get_object(Bucket=bucket, Key="name")["Body"].read() == b"content"

    refusals: dict[str, Callable[[], object]] = {
        "AccessDenied": lambda: reading.put_object(Bucket=bucket, Key="name", Body=b"other"),
        "SignatureDoesNotMatch": lambda: s3_server.client(secret_key="wrong").list_buckets(),
        "InvalidAccessKeyId": lambda: s3_server.client(access_key="nobody").list_buckets(),
        "NoSuchBucket": lambda: s3_server.write("missing", "name", b"content"),
    }
    for code, attempt in refusals.items():
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            attempt()
        assert refused.value.response["Error"]["Code"] == code
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{s3_server.endpoint}/{bucket}/name", timeout=20)
    assert s3_server.read(bucket, "name") == b"content"


def test_s3_goes_away_and_comes_back(s3_server: S3) -> None:
    bucket = s3_server.create_bucket()
    s3_server.write(bucket, "a/name", b"content")
    s3_server.stop()
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        s3_server.names(bucket)
    s3_server.start()
    assert s3_server.names(bucket) == ["a/name"]
    assert s3_server.read(bucket, "a/name") == b"content"


def test_gcs_goes_away_and_comes_back(gcs_server: Gcs) -> None:
    bucket = gcs_server.create_bucket()
    gcs_server.write(bucket, "a/name", b"content")
    gcs_server.stop()
    assert not _answers(gcs_server.port)
    gcs_server.start()
    assert gcs_server.names(bucket) == ["a/name"]
    assert gcs_server.read(bucket, "a/name") == b"content"


def test_a_tracking_server_with_users(
    server_with_users: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient(server_with_users.uri)

    def become(user: str) -> None:
        for name, value in server_with_users.environment_of(user).items():
            monkeypatch.setenv(name, value)

    with pytest.raises(MlflowException, match="401"):
        client.search_experiments()
    become("admin")
    experiment = client.create_experiment("the admin's")
    run = client.create_run(experiment).info.run_id
    client.create_registered_model("the admin's")

    become("reader")
    assert client.get_run(run).info.run_id == run
    for attempt in (
        lambda: client.create_run(experiment),
        lambda: client.log_metric(run, "m", 1.0),
        lambda: client.log_text(run, "content", "name.txt"),
        lambda: client.create_model_version("the admin's", f"runs:/{run}/model", run),
    ):
        with pytest.raises((MlflowException, OSError), match=r"403|[Pp]ermission"):
            attempt()

    become("writer")
    client.log_metric(run, "m", 1.0)
    client.log_text(run, "content", "name.txt")
    client.create_run(experiment)
    client.create_model_version("the admin's", f"runs:/{run}/model", run)
    assert client.get_run(run).data.metrics == {"m": 1.0}
    assert client.list_artifacts(run)[0].path == "name.txt"


@pytest.mark.parametrize(
    "backend", ["sqlite", "file", "postgres+s3", "postgres+gcs"], indirect=True
)
def test_a_client_with_that_environment_records_there(backend: Backend) -> None:
    settings = load_settings()
    assert settings.tracking_uri == backend.uri
    client = open_store(settings.tracking_uri)
    run = client.create_run(find_or_create_experiment(client, "mine", settings)).info.run_id
    client.log_text(run, "content", "name.txt")

    assert backend.client().list_artifacts(run)[0].path == "name.txt"
    if backend.artifacts is not None:
        (stored,) = backend.artifacts.names()
        assert backend.artifacts.read(stored) == b"content"


@pytest.mark.parametrize("backend", ["server+postgres+s3"], indirect=True)
def test_proxied_artifacts_need_no_key(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    assert list(backend.environment) == ["MLFLOW_TRACKING_URI"]
    client = backend.client()
    run = client.create_run(client.create_experiment("proxied")).info.run_id
    client.log_text(run, "content", "name.txt")

    assert backend.artifacts is not None
    (stored,) = (name for name in backend.artifacts.names() if run in name)
    assert backend.artifacts.read(stored) == b"content"
    copy = client.download_artifacts(run, "name.txt", str(tmp_path))
    assert Path(copy).read_text() == "content"

    assert backend.server is not None
    assert _answers(backend.server.port)
    backend.pause()
    assert not _answers(backend.server.port)
    backend.resume()
    assert client.get_run(run).info.run_id == run


def test_no_password_shows_in_the_process_list(
    server_on_postgres: TrackingServer, s3_server: S3, postgres_server: Postgres
) -> None:
    shown = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            shown += process.cmdline()
    assert any(str(server_on_postgres.port) in argument for argument in shown)
    for secret in (s3_server.secret_key, postgres_server.password):
        assert not any(secret in argument for argument in shown)


def test_servers_end_with_a_process_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal\n"
        "from services.gcs import gcs\n"
        "with gcs(pathlib.Path()) as server:\n"
        "    print(server.port, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=undecided_environment() | {"PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while _answers(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _answers(int(done.stdout))


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
