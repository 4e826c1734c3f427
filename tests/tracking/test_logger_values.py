"""What is logged is what is stored: on SQLite, in a folder and on a server."""

import hashlib
import json
import math
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
import sqlalchemy
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.stores import absolute_uri

pytestmark = pytest.mark.slow


def read_json(logger: MLflowLogger, name: str) -> Any:
    with_uri = mlflow.MlflowClient(absolute_uri(logger.tracking_uri))
    path = with_uri.download_artifacts(logger.run_id, name, dst_path=".")
    return json.loads(Path(path).read_text(), parse_constant=lambda name: pytest.fail(name))


def history(logger: MLflowLogger, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in logger.client.get_metric_history(logger.run_id, name)]


def test_values_of_all_kinds_reach_the_store(store: str) -> None:
    with MLflowLogger("values", tracking_uri=store) as logger:
        logger.log_params(
            learning_rate=np.float64(0.1),
            note="Zürich 東京 'quoted' \"twice\" a=b & c",
            empty="",
            nothing=None,
            window=[1, 2],
            start=pd.Timestamp("2020-02-29"),
            model={"depth": np.int64(6), "grid": {"eta": True}},
            longest="x" * 6000,
            **{"große Zahl": 1, "path/to": 2, "a-b.c:d_e": 3},
        )
        measured: dict[str, Any] = {
            "auc": np.float32(0.5),
            "zero": np.array(0.0),
            "nan": math.nan,
            "plus": math.inf,
            "minus": -math.inf,
            "tiny": 5e-324,
            "third": 1 / 3,
            "model": {"depth": 1},
            "validation/auc roc": 0.51,
            "genauigkeit_ü": 1,
        }
        logger.log_metrics(**measured)
        logger.set_tags(**{"candlewick.step": "train", "note": "Zürich\n東京", "n": np.int64(3)})
    run = logger.client.get_run(logger.run_id)
    assert run.data.params == {
        "learning_rate": "0.1",
        "note": "Zürich 東京 'quoted' \"twice\" a=b & c",
        "empty": "",
        "nothing": "None",
        "window": "[1, 2]",
        "start": "2020-02-29T00:00:00",
        "model.depth": "6",
        "model.grid.eta": "True",
        "longest": "x" * 6000,
        "große Zahl": "1",
        "path/to": "2",
        "a-b.c:d_e": "3",
    }
    metrics = dict(run.data.metrics)
    assert math.isnan(metrics.pop("nan"))
    for name, sign in (("plus", 1), ("minus", -1)):  # databases keep the largest float instead
        assert metrics.pop(name) in (sign * math.inf, sign * 1.7976931348623157e308)
    assert metrics == {
        "auc": 0.5,
        "zero": 0,
        "tiny": 5e-324,
        "third": 1 / 3,
        "model.depth": 1,
        "validation/auc roc": 0.51,
        "genauigkeit_ü": 1,
    }
    expected = {"candlewick.step": "train", "note": "Zürich\n東京", "n": "3"}
    assert expected.items() <= run.data.tags.items()
    assert expected == logger.tags


def test_artifacts_of_all_kinds_reach_the_store(store: str) -> None:
    plots = Path("results/plots")
    (plots / "2012").mkdir(parents=True)
    (plots / "2012" / "Übersicht a b.txt").write_text("x")
    (plots / "roc.png").write_bytes(b"\x89PNG")
    Path("config.yaml").write_text("depth: 6\n")
    with MLflowLogger("values", tracking_uri=store) as logger:
        logger.log_artifacts("results/plots/")
        logger.log_artifacts(plots, "again")
        logger.log_artifact_file("config.yaml", "config")
        logger.log_dict_artifact({"sharpe": np.nan, "tage": [np.int8(1)], "é": "東"}, "a/x.json")
        logger.log_dataset_stats(
            {
                "rows": np.int64(9),
                "mean": 0.52,
                "share": {"up": math.nan},
                "name": "x",
                "none": None,
            }
        )
    client = logger.client
    found = [artifact.path for artifact in client.list_artifacts(logger.run_id)]
    assert sorted(found) == ["2012", "a", "again", "config", "dataset_stats.json", "roc.png"]
    path = client.download_artifacts(logger.run_id, "2012/Übersicht a b.txt", dst_path=".")
    assert Path(path).read_text() == "x"
    path = client.download_artifacts(logger.run_id, "config/config.yaml", dst_path=".")
    assert Path(path).read_text() == "depth: 6\n"
    assert read_json(logger, "a/x.json") == {"sharpe": None, "tage": [1], "é": "東"}
    assert read_json(logger, "dataset_stats.json") == {
        "rows": 9,
        "mean": 0.52,
        "share": {"up": None},
        "name": "x",
        "none": None,
    }
    metrics = client.get_run(logger.run_id).data.metrics
    assert metrics.keys() == {"dataset/rows", "dataset/mean", "dataset/share.up"}


def test_feature_snapshots_are_named_after_their_content(
    database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    features = {"version": "1.0", "feature_names": ("rsi", "macd"), "feature_count": np.int64(2)}
    manifest = {"version": "1.0", "feature_names": ["rsi", "macd"], "feature_count": 2}
    expected = hashlib.md5(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    with MLflowLogger("values", feature_snapshot_id="declared") as logger:
        snapshot_id = logger.log_feature_snapshot(features)
    assert snapshot_id == expected
    run = logger.client.get_run(logger.run_id)
    assert run.data.tags["feature_snapshot_id"] == snapshot_id
    assert run.data.params["feature_snapshot_id"] == "declared"
    assert f"declared, but these features hash to {snapshot_id}" in caplog.text
    assert read_json(logger, "feature_snapshot.json") == manifest


def test_what_is_refused_leaves_no_trace(database: Path) -> None:
    with MLflowLogger("values") as logger:
        logger.log_step_metrics(step=0, loss=1.0)
        with pytest.raises(TypeError, match="metric accuracy is 'high'"):
            logger.log_step_metrics(step=1, loss=0.5, accuracy="high")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="metric name 'loss%' cannot be stored"):
            logger.log_step_metrics(step=1, loss=0.5, **{"loss%": 1})
        with pytest.raises(TypeError):
            logger.log_step_metrics(step=None, loss=0.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="parameter grid has 6001 characters"):
            logger.log_params(depth=4, grid="x" * 6001)
        with pytest.raises(ValueError, match=r"parameter name '\.\./x' cannot be stored"):
            logger.log_params(depth=4, **{"../x": 1})
        with pytest.raises(ValueError, match="tag name 'a%' cannot be stored"):
            logger.set_tags(**{"ok": 1, "a%": 1})
        with pytest.raises(NotADirectoryError, match="expects a folder, found none at results/"):
            logger.log_artifacts("results/")
        with pytest.raises(FileNotFoundError, match=r"expects a file, found none at config\.yaml"):
            logger.log_artifact_file("config.yaml")
        with pytest.raises(FileNotFoundError, match="expects a file, found none at"):
            logger.log_artifact_file(".")
    run = logger.client.get_run(logger.run_id)
    assert run.data.params == {}
    assert run.data.metrics == {"loss": 1.0}
    assert history(logger, "loss") == [(0, 1.0)]
    assert "ok" not in run.data.tags
    assert run.info.status == "FINISHED"
    assert logger.client.list_artifacts(logger.run_id) == []


def test_parameters_are_compared_by_value(store: str) -> None:
    with MLflowLogger("values", tracking_uri=store) as logger:
        logger.log_params(eta=0.1, names=["a"], flag=True)
        logger.log_params(eta=np.float64(0.1), names=("a",), flag=True, depth=4)
        with pytest.raises(ValueError, match=r"parameter eta is '0\.1' .*fixed; start another run"):
            logger.log_params(eta=0.2, seed=1)
    params = logger.client.get_run(logger.run_id).data.params
    assert params == {"eta": "0.1", "names": '["a"]', "flag": "True", "depth": "4"}


def test_more_parameters_than_a_request_takes(store: str) -> None:
    many = {f"p{number}": number for number in range(250)}
    with MLflowLogger("values", tracking_uri=store) as logger:
        logger.log_params(**many)
    params = logger.client.get_run(logger.run_id).data.params
    assert params == {name: str(value) for name, value in many.items()}


def test_the_final_value_of_a_metric_is_the_runs(store: str) -> None:
    with MLflowLogger("values", tracking_uri=store) as logger:
        logger.log_metrics(accuracy=0.1)
        for epoch in range(10):
            logger.log_step_metrics(step=epoch, accuracy=0.6, loss=1 / (1 + epoch))
        logger.log_metrics(accuracy=0.5)
        assert logger.client.get_run(logger.run_id).data.metrics == {"accuracy": 0.5, "loss": 0.1}
    expected = [(0, 0.1), *((epoch, 0.6) for epoch in range(10)), (10, 0.5)]
    assert history(logger, "accuracy") == expected


def test_metrics_keep_every_bit(store: str) -> None:
    bits = np.random.default_rng(0).integers(0, 2**64, size=600, dtype=np.uint64)
    values = [value for value in bits.view(np.float64).tolist() if math.isfinite(value)]
    values += [0.1 + 0.2, 5e-324, sys.float_info.max, -sys.float_info.max]
    with MLflowLogger("values", tracking_uri=store) as logger:
        for step, value in enumerate(values):
            logger.log_step_metrics(step=step, loss=value)
    stored = [value for _, value in history(logger, "loss")]
    assert [value.hex() for value in stored] == [value.hex() for value in values]


# -- requests ----------------------------------------------------------------------------------


@pytest.fixture
def inserts() -> Iterator[list[int]]:
    """Rows of metrics in each transaction of any database of this process."""
    sizes: list[int] = []
    rows = 0

    def on_insert(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        nonlocal rows
        if statement.startswith("INSERT INTO metrics "):
            rows += len(parameters) if isinstance(parameters, list) else 1

    def on_commit(conn: Any) -> None:
        nonlocal rows
        if rows:
            sizes.append(rows)
        rows = 0

    listeners = (("before_cursor_execute", on_insert), ("commit", on_commit))
    for event, listener in listeners:
        sqlalchemy.event.listen(sqlalchemy.Engine, event, listener)
    yield sizes
    for event, listener in listeners:
        sqlalchemy.event.remove(sqlalchemy.Engine, event, listener)


@pytest.mark.slow
def test_ten_thousand_metrics_in_ten_requests(database: Path, inserts: list[int]) -> None:
    with MLflowLogger("values") as logger:
        for step in range(3_333):
            logger.log_step_metrics(step=step, a=step, b=-step, c=0.5)
        logger.log_step_metrics(step=3_333, a=3_333)
    assert sum(inserts) == 10_000
    assert max(inserts) <= 1_000
    assert len(inserts) < 13  # ten, and a few more where the machine is slow
    assert history(logger, "a") == [(step, step) for step in range(3_334)]
    assert history(logger, "b") == [(step, -step) for step in range(3_333)]


@pytest.mark.slow
def test_ten_thousand_metrics_in_ten_requests_to_a_server(server: str) -> None:
    sizes = []

    class Counting(BaseHTTPRequestHandler):
        """Passes everything on to the real server, and notes the batches."""

        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.endswith("/runs/log-batch"):
                sizes.append(len(json.loads(body).get("metrics", [])))
            headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
            reply = requests.request(
                self.command, server + self.path, data=body, headers=headers, timeout=60
            )
            self.send_response(reply.status_code)
            self.send_header("Content-Type", reply.headers["Content-Type"])
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Counting) as proxy:
        proxy.daemon_threads = True
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{proxy.server_port}"
        with MLflowLogger("counted", tracking_uri=address) as logger:
            for step in range(10_000):
                logger.log_step_metrics(step=step, loss=step)
        proxy.shutdown()
        thread.join()
    assert sum(sizes) == 10_000
    assert max(sizes) <= 1_000
    assert len(sizes) < 25  # ten, and a few more where the machine is slow
    found = mlflow.MlflowClient(server).get_metric_history(logger.run_id, "loss")
    assert [(metric.step, metric.value) for metric in found] == [(s, s) for s in range(10_000)]


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let metrics wait, however slow the machine is."""
    monkeypatch.setattr("steps.tracking.outbox.STALE_AFTER", math.inf)


@pytest.mark.usefixtures("patience")
def test_a_curve_can_be_watched_while_it_grows(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MLflowLogger("values") as logger:
        logger.log_step_metrics(step=0, loss=1)
        assert history(logger, "loss") == []
        monkeypatch.setattr("steps.tracking.outbox.STALE_AFTER", -1.0)
        logger.log_step_metrics(step=1, loss=1)
        assert history(logger, "loss") == [(0, 1), (1, 1)]


def rename_table(database: Path, name: str, to: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"ALTER TABLE {name} RENAME TO {to}")


@pytest.mark.usefixtures("patience")
def test_a_request_that_fails_keeps_what_waits(database: Path) -> None:
    with MLflowLogger("values") as logger:
        for step in range(3):
            logger.log_step_metrics(step=step, loss=step)
        rename_table(database, "metrics", "metrics_away")
        for _ in range(2):
            with pytest.raises(MlflowException, match="no such table: metrics"):
                logger.flush()
        with pytest.raises(MlflowException):
            logger.log_metrics(auc=0.5)
        rename_table(database, "metrics_away", "metrics")
        logger.flush()
        assert history(logger, "loss") == [(0, 0), (1, 1), (2, 2)]
        assert history(logger, "auc") == [(0, 0.5)]


@pytest.mark.usefixtures("patience")
def test_a_run_that_lost_metrics_does_not_count_as_finished(database: Path) -> None:
    logger = MLflowLogger("values", tracking_uri="sqlite:///mlflow.db")
    logger.log_step_metrics(step=0, loss=1)
    rename_table(database, "metrics", "metrics_away")
    with pytest.raises(MlflowException, match="no such table: metrics"):
        logger.end_run()
    rename_table(database, "metrics_away", "metrics")
    assert logger.client.get_run(logger.run_id).info.status == "FAILED"
    assert mlflow.active_run() is None
    assert not mlflow.tracking.is_tracking_uri_set()


def test_a_metric_is_stamped_when_it_is_logged(database: Path) -> None:
    with MLflowLogger("values") as logger:
        logger.log_step_metrics(step=0, loss=1)
        other: Metric = Metric("mark", 0, mlflow.utils.time.get_current_time_millis(), 0)
        logger.client.log_batch(logger.run_id, [other])
    (stored,) = logger.client.get_metric_history(logger.run_id, "loss")
    assert stored.timestamp <= other.timestamp
