"""Whether a store answers: one question, one reason, soon."""

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from answers import answering, listening

from steps.tracking import reachable
from steps.tracking.reachable import (
    SilenceError,
    find_artifact_trouble,
    find_trouble,
    give_a_second_chance,
    why_artifacts_away,
    why_away,
    within,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for what will not come."""
    monkeypatch.setattr(reachable, "PATIENCE", 0.3)


@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_nobody_listens(scheme: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"{scheme}://quant:s3cr3t@127.0.0.1:{nobody.getsockname()[1]}"
        assert why_away(uri) == "connection refused"


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("scheme", ["http", "postgresql"])
def test_somebody_listens_and_says_nothing(scheme: str) -> None:
    with listening(None) as port:
        assert why_away(f"{scheme}://quant:s3cr3t@127.0.0.1:{port}/x") == "no answer within 0.3 s"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"", "without response"), (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0")],
    ids=["hanging up", "another protocol"],
)
def test_what_listens_is_no_web_server(answer: bytes, reason: str) -> None:
    with listening(answer) as port:
        assert reason in str(why_away(f"http://127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("status", "body", "reason", "remedy", "away"),
    [
        (401, "", "it wants to know who asks", "set MLFLOW_TRACKING_USERNAME", False),
        (403, "Permission denied", "Permission denied", "ask whoever runs the server", False),
        (403, "Invalid Host header - possible", "Invalid Host", "--allowed-hosts", False),
        (404, "<html>nginx</html>", "error 404", "check the address", False),
        (200, "<html>Sign in</html>", "is no MLflow server", "a login page", False),
        (200, "[]", "is no MLflow server", "check the address", False),
        (429, "", "error 429", "fewer requests", True),
        (
            503,
            '{"message": "no route to postgresql://a:hush@db/x\\nmore"}',
            "a:***@db/x",
            "log",
            True,
        ),
        (500, "Traceback", "error 500: Traceback", "the server's log", True),
    ],
)
def test_what_a_server_answers(
    status: int, body: str, reason: str, remedy: str, away: bool
) -> None:
    with answering(status, body) as address:
        trouble = find_trouble(address)
        assert (why_away(address) is not None) == away
    assert trouble
    assert reason in trouble.reason
    assert "\n" not in trouble.reason
    assert remedy in trouble.remedy


def test_a_server_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "quant")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cr3t")
    with answering(200, "{}") as address:
        assert find_trouble(address) is None
        assert find_trouble(f"{address}/") is None


def test_artifacts_through_a_server() -> None:
    with answering(503, '{"message": "Endpoint disabled due to --no-serve-artifacts"}') as address:
        trouble = find_artifact_trouble("mlflow-artifacts:/1", address)
        assert trouble
        assert "--serve-artifacts" in trouble.remedy
        assert not trouble.away
    with answering(500, '{"message": "no such bucket"}') as address:
        assert why_artifacts_away("mlflow-artifacts:/1", address) == "error 500: no such bucket"
    with answering(200, '{"files": []}') as address:
        assert find_artifact_trouble("mlflow-artifacts:/1", address) is None


def test_files_and_folders(database: Path) -> None:
    assert why_away(f"sqlite:///{database}") is None
    assert why_away(f"sqlite:///{database.parent}/new/folder/mlflow.db") is None
    assert why_away(f"file:{database.parent}/mlruns") is None
    assert why_artifacts_away(f"{database.parent}/mlruns/1", "") is None
    assert list(database.parent.iterdir()) == [database]
    Path("noise.db").write_bytes(b"noise" * 1000)
    for uri in ("noise.db", database.parent, f"{database}/mlflow.db"):
        trouble = find_trouble(f"sqlite:///{uri}")
        assert trouble
        assert "set MLFLOW_TRACKING_URI" in trouble.remedy
    assert find_artifact_trouble(f"file://{database}/1", "")


def test_a_database_that_somebody_writes_to_is_there(database: Path) -> None:
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert why_away(f"sqlite:///{database}") is None


@pytest.mark.parametrize("uri", ["databricks", "dbfs:/x", "mongodb://x", "sqlite:///:memory:"])
def test_of_other_stores_nothing_is_known(uri: str) -> None:
    assert why_away(uri) is None
    assert why_artifacts_away("hdfs://cluster/x", uri) is None


def test_within_returns_and_raises_what_the_call_does() -> None:
    assert within(60, lambda: 3) == 3
    with pytest.raises(KeyError, match="gone"):
        within(60, lambda: {}["gone"])
    with pytest.raises(SystemExit):
        within(60, lambda: exit(3))


def test_within_does_not_wait_for_a_call_that_hangs() -> None:
    end = threading.Event()
    with pytest.raises(SilenceError, match=r"no answer within 0\.01 s"):
        within(0.01, end.wait)
    end.set()


def test_within_lets_a_call_have_its_time() -> None:
    def slow() -> str:
        time.sleep(0.05)
        return "done"

    asked: Callable[[], str] = slow
    assert within(60, asked) == "done"


def test_who_takes_connections_and_says_nothing_gets_a_second_chance(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.1)
    monkeypatch.setattr(reachable, "_SECOND_PATIENCE", 0.3)
    monkeypatch.setattr(os, "getloadavg", lambda: (1e6, 0, 0))
    with listening(None) as port:
        uri = f"http://quant:s3cr3t@127.0.0.1:{port}"
        trouble = give_a_second_chance(lambda: find_trouble(uri), None, uri)
        found = give_a_second_chance(
            lambda: find_artifact_trouble("mlflow-artifacts:/1", uri), "mlflow-artifacts:/1", uri
        )
    assert trouble
    assert found
    assert trouble.reason == found.reason == "no answer within 0.3 s"
    assert caplog.messages == [
        f"http://quant:***@127.0.0.1:{port} is there, but does not answer soon: waiting for 0 s "
        "at most",
        "mlflow-artifacts:/1 is there, but does not answer soon: waiting for 0 s at most",
    ]


def test_a_busy_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachable, "PATIENCE", 0.05)
    monkeypatch.setattr(os, "getloadavg", lambda: (1e6, 0, 0))

    def find() -> reachable.Trouble | None:
        return reachable._ask(lambda: time.sleep(0.5), "")

    with listening(None) as port:
        assert find()
        assert give_a_second_chance(find, None, f"http://127.0.0.1:{port}") is None


def test_nobody_else_gets_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1e6, 0, 0))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert give_a_second_chance(lambda: find_trouble(uri), None, uri)
        silence = reachable.Trouble("", "", silent=True)
        assert give_a_second_chance(lambda: silence, None, uri) is silence
    monkeypatch.setattr(os, "getloadavg", lambda: (0, 0, 0))
    with listening(None) as port:
        uri = f"http://127.0.0.1:{port}"
        assert give_a_second_chance(lambda: silence, None, uri) is silence
    assert caplog.messages == []
