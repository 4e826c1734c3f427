"""The run that a logger opens, or finds: alone, below another, inside `mlflow run`; and its end."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import mlflow
import nbformat
import pytest
import sqlalchemy
from mlflow.entities import Run

from steps.tracking.mlflow_logger import MLflowLogger, get_mlflow_logger
from steps.tracking.stores import TrackingError, absolute_uri

STORE = "sqlite:///mlflow.db"
NO_RUN = "0" * 32


@pytest.fixture
def client(database: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(absolute_uri(STORE))


def runs_of(client: mlflow.MlflowClient, experiment: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


# -- alone -------------------------------------------------------------------------------------


def test_a_run_of_its_own(client: mlflow.MlflowClient) -> None:
    logger = get_mlflow_logger(
        experiment_name="alone",
        run_name="first",
        model_name="momentum",
        model_type="xgboost",
        feature_snapshot_id="abc",
        tags={"team": "quant", "fold": 3, "nothing": None},
    )
    assert mlflow.active_run().info.run_id == logger.run_id
    run = client.get_run(logger.run_id)
    assert run.info.status == "RUNNING"
    assert run.info.run_name == "first"
    assert client.get_experiment(logger.experiment_id).name == "alone"
    assert run.info.experiment_id == logger.experiment_id
    assert run.data.params == {"feature_snapshot_id": "abc"}
    expected = {
        "model_name": "momentum",
        "model_type": "xgboost",
        "feature_snapshot_id": "abc",
        "team": "quant",
        "fold": "3",
    }
    assert logger.tags == expected
    assert expected.items() <= run.data.tags.items()
    assert "nothing" not in run.data.tags

    logger.end_run()
    assert client.get_run(logger.run_id).info.status == "FINISHED"
    assert mlflow.active_run() is None


def test_nothing_stays_decided_afterwards(client: mlflow.MlflowClient) -> None:
    before = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    with MLflowLogger("alone", tracking_uri=STORE) as logger:
        assert logger.tracking_uri == STORE
    with MLflowLogger() as other:
        assert client.get_experiment(other.experiment_id).name == "stock_prediction"
    assert not mlflow.tracking.is_tracking_uri_set()
    after = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    assert after == before


def test_a_tracking_uri_that_was_set_comes_back(client: mlflow.MlflowClient) -> None:
    mlflow.set_tracking_uri("http://localhost:1")
    with MLflowLogger("alone", tracking_uri=STORE) as logger:
        assert mlflow.get_tracking_uri() == absolute_uri(STORE)
    assert mlflow.get_tracking_uri() == os.environ["MLFLOW_TRACKING_URI"] == "http://localhost:1"
    assert client.get_run(logger.run_id).info.status == "FINISHED"


def test_the_environment_decides_where_nobody_else_does(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("MLFLOW_TRACKING_URI=http://localhost:1\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)
    experiment_id = client.create_experiment("decided")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    with MLflowLogger() as logger:
        assert logger.experiment_id == experiment_id
    with MLflowLogger("named") as logger:
        assert client.get_experiment(logger.experiment_id).name == "named"
    assert os.environ["MLFLOW_TRACKING_URI"] == STORE
    assert os.environ["MLFLOW_EXPERIMENT_ID"] == experiment_id


def test_an_experiment_that_mlflow_was_told_is_respected(client: mlflow.MlflowClient) -> None:
    mlflow.set_tracking_uri(absolute_uri(STORE))
    mlflow.set_experiment("told")
    with MLflowLogger() as logger:
        assert client.get_experiment(logger.experiment_id).name == "told"


def test_going_on_with_a_run(client: mlflow.MlflowClient) -> None:
    with MLflowLogger("alone") as first:
        first.log_params(depth=4)
    with MLflowLogger(run_id=first.run_id, tags={"again": 1}) as second:
        assert client.get_run(first.run_id).info.status == "RUNNING"
        second.log_params(depth=4, eta=0.1)
        with pytest.raises(ValueError, match=r"parameter depth is '4' .* cannot become '5'"):
            second.log_params(depth=5)
    run = client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"depth": "4", "eta": "0.1"}
    assert run.data.tags["again"] == "1"


# -- what cannot be opened ---------------------------------------------------------------------


def test_runs_that_cannot_be_opened(client: mlflow.MlflowClient) -> None:
    with pytest.raises(TrackingError, match=f"cannot be opened in sqlite:.*mlflow.db: .*{NO_RUN}"):
        MLflowLogger(run_id=NO_RUN)
    with MLflowLogger("alone") as logger:
        pass
    client.delete_run(logger.run_id)
    with pytest.raises(TrackingError, match=r"the run cannot be opened in .*: .*deleted"):
        MLflowLogger(run_id=logger.run_id)
    with pytest.raises(ValueError, match="tag name 'loss%' cannot be stored"):
        MLflowLogger("alone", tags={"loss%": 1})
    assert mlflow.active_run() is None
    assert not mlflow.tracking.is_tracking_uri_set()
    assert runs_of(client, "alone") == []


def test_an_experiment_id_that_leads_nowhere(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "12345")
    with pytest.raises(TrackingError, match="12345"):
        MLflowLogger()
    experiment_id = client.create_experiment("gone")
    client.delete_experiment(experiment_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment_id)
    with pytest.raises(TrackingError, match="'gone' was deleted"):
        MLflowLogger()


# -- below another run -------------------------------------------------------------------------


def test_a_child_of_the_active_run(
    client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow.set_tracking_uri(absolute_uri(STORE))
    experiment = client.create_experiment("family")
    with mlflow.start_run(experiment_id=experiment, run_name="parent") as parent:
        mlflow.log_param("learning_rate", 0.5)
        elsewhere = "postgresql://quant:s3cr3t@db.example/x"
        with MLflowLogger("another", tracking_uri=elsewhere) as logger:
            logger.log_params(learning_rate=0.1)
        assert mlflow.active_run().info.run_id == parent.info.run_id
        assert client.get_run(parent.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("after", 1)
    child, parent = client.get_run(logger.run_id), client.get_run(parent.info.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.experiment_id == experiment
    assert child.data.params == {"learning_rate": "0.1"}
    assert child.info.status == parent.info.status == "FINISHED"
    assert parent.data.params == {"learning_rate": "0.5"}
    assert parent.data.metrics == {"after": 1}
    assert "not in postgresql://quant:***@db.example/x" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert mlflow.get_tracking_uri() == absolute_uri(STORE)


def test_loggers_below_loggers(client: mlflow.MlflowClient) -> None:
    with MLflowLogger("family", run_name="main", tracking_uri=STORE) as main:
        for name in ("featurize", "train"):
            with MLflowLogger(run_name=name) as step, MLflowLogger(run_name="fold") as fold:
                fold.log_metrics(auc=0.5)
                main.log_metrics(**{f"{name}_auc": 0.5})
            assert mlflow.active_run().info.run_id == main.run_id
            assert client.get_run(fold.run_id).data.tags["mlflow.parentRunId"] == step.run_id
            assert client.get_run(step.run_id).data.tags["mlflow.parentRunId"] == main.run_id
    assert client.get_run(main.run_id).data.metrics == {"featurize_auc": 0.5, "train_auc": 0.5}
    runs = runs_of(client, "family")
    assert len(runs) == 5
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert not mlflow.tracking.is_tracking_uri_set()


def test_children_that_were_left_open_go_with_their_parent(client: mlflow.MlflowClient) -> None:
    parent = MLflowLogger("family", tracking_uri=STORE)
    child = MLflowLogger()
    grandchild = MLflowLogger()
    grandchild.log_step_metrics(step=0, loss=1)
    parent.end_run("KILLED")
    for logger in (parent, child, grandchild):
        assert client.get_run(logger.run_id).info.status == "KILLED"
        logger.end_run("FINISHED")
        assert client.get_run(logger.run_id).info.status == "KILLED"
    assert client.get_run(grandchild.run_id).data.metrics == {"loss": 1}
    assert mlflow.active_run() is None
    assert not mlflow.tracking.is_tracking_uri_set()


def test_a_parent_ends_and_a_run_somebody_else_opened_below_goes_on(
    client: mlflow.MlflowClient,
) -> None:
    parent = MLflowLogger("family", tracking_uri=STORE)
    below = mlflow.start_run(nested=True)
    parent.end_run()
    assert client.get_run(parent.run_id).info.status == "FINISHED"
    assert client.get_run(below.info.run_id).info.status == "RUNNING"
    assert mlflow.active_run().info.run_id == below.info.run_id


@pytest.mark.slow
def test_a_model_goes_to_its_own_run_even_below_an_open_child(client: mlflow.MlflowClient) -> None:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with MLflowLogger("family", tracking_uri=STORE) as parent:
        with MLflowLogger() as child:
            uri = parent.log_model(model, model_path="parents")
        assert client.get_run(child.run_id).outputs.model_outputs == []
        (output,) = client.get_run(parent.run_id).outputs.model_outputs
        assert uri == f"models:/{output.model_id}"


def test_threads_do_not_close_each_others_runs(client: mlflow.MlflowClient) -> None:
    first = MLflowLogger("threads", tracking_uri=STORE)
    opened, go_on = threading.Event(), threading.Event()
    ended: list[str] = []

    def other() -> None:
        with MLflowLogger("threads") as second:
            opened.set()
            go_on.wait(timeout=60)
            ended.append(second.run_id)
            second.log_metrics(late=1)

    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(timeout=60)
    first.end_run("FAILED")
    go_on.set()
    thread.join()
    run = client.get_run(ended[0])
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"late": 1}
    assert "mlflow.parentRunId" not in run.data.tags
    assert client.get_run(first.run_id).info.status == "FAILED"


# -- inside `mlflow run` -----------------------------------------------------------------------


def test_the_run_that_mlflow_run_prepared(
    client: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    experiment = client.create_experiment("chosen with --experiment-name")
    prepared = client.create_run(experiment, run_name="train").info.run_id
    as_typed = {"learning_rate": "0.10", "reg_alpha": "1e-05", "note": "'a b'", "flag": "true"}
    for name, value in as_typed.items():
        client.log_param(prepared, name, value)
    environment = {"MLFLOW_TRACKING_URI": STORE, "MLFLOW_EXPERIMENT_ID": experiment}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared)

    asked = {"experiment_name": "another", "tracking_uri": "file:./elsewhere"}
    with MLflowLogger(**asked, tags={"step": "train"}) as logger:
        assert logger.run_id == prepared
        assert logger.experiment_id == experiment
        parsed = {"learning_rate": 0.1, "reg_alpha": 0.00001, "note": "a b", "flag": True}
        logger.log_params(**parsed, seed=42)
        with pytest.raises(ValueError, match=r"learning_rate is '0.10' .*cannot become '0.2'"):
            logger.log_params(learning_rate=0.2, other=1)
        with MLflowLogger() as child:
            assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == prepared
        subprocesses = {name: os.environ.get(name) for name in environment}
    run = client.get_run(prepared)
    assert run.info.status == "FINISHED"
    assert run.data.params == {**as_typed, "seed": "42"}
    assert run.data.tags["step"] == "train"
    assert "recording in sqlite:///mlflow.db" in caplog.text
    assert not Path("elsewhere").exists()
    assert subprocesses["MLFLOW_EXPERIMENT_ID"] == experiment
    assert absolute_uri(subprocesses["MLFLOW_TRACKING_URI"] or "") == absolute_uri(STORE)
    assert {name: os.environ.get(name) for name in environment} == environment

    with MLflowLogger() as second:  # a script may well open another run afterwards
        assert second.run_id != prepared
        assert second.experiment_id == experiment


def test_a_run_that_was_told_of_other_features_is_not_left_open(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = client.create_run(client.create_experiment("x")).info.run_id
    client.log_param(prepared, "feature_snapshot_id", "abc")
    monkeypatch.setenv("MLFLOW_RUN_ID", prepared)
    with pytest.raises(ValueError, match=r"feature_snapshot_id is 'abc' .* cannot become 'def'"):
        MLflowLogger(feature_snapshot_id="def")
    run = client.get_run(prepared)
    assert run.info.status == "FAILED"
    assert "cannot become 'def'" in run.data.tags["failure"]
    assert mlflow.active_run() is None


PROJECT = """
name: tiny
entry_points:
  main:
    parameters:
      learning_rate: {type: float, default: 0.05}
      note: {type: string, default: none}
    command: python step.py {learning_rate} {note}
"""
STEP = """
import sys
from steps.tracking.mlflow_logger import MLflowLogger
with MLflowLogger("ignored", run_name="ignored") as logger:
    logger.log_params(learning_rate=float(sys.argv[1]), note=sys.argv[2])
    logger.log_step_metrics(step=0, loss=1.0)
    if sys.argv[2] == "a b":
        raise SystemExit("no prices")
"""


@pytest.mark.slow
def test_mlflow_run(
    client: mlflow.MlflowClient,
    tmp_path: Path,
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "MLproject").write_text(PROJECT)
    (project / "step.py").write_text(STEP)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for note, code, status in (("none", 0, "FINISHED"), ("a b", 1, "FAILED")):
        result = run_python(
            *("-m", "mlflow", "run", str(project), "--env-manager", "local"),
            *("--experiment-name", note, "-P", "learning_rate=0.10", "-P", f"note={note}"),
            MLFLOW_TRACKING_URI=absolute_uri(STORE),  # the step starts in the project's folder
            PATH=path,
        )
        assert result.returncode == code, result.stderr
        (run,) = runs_of(client, note)
        assert run.info.status == status
        assert run.data.params == {
            "learning_rate": "0.10",
            "note": repr(note).replace("'none'", "none"),
        }
        assert run.data.metrics == {"loss": 1.0}
    assert run.data.tags["failure"] == "SystemExit: no prices"
    assert client.get_experiment_by_name("ignored") is None


# -- in a notebook -----------------------------------------------------------------------------

CELLS = [
    "from steps.tracking.mlflow_logger import MLflowLogger",
    "1 / 0",
    'logger = MLflowLogger("notebook", run_name="left open")',
    "logger.log_params(learning_rate=0.1)",
    "for step in range(3):\n    logger.log_step_metrics(step=step, loss=1 / (step + 1))",
    'logger.log_step_metrics(step=3, loss="low")',
    "logger.log_step_metrics(step=3, loss=0.2)",
    "import mlflow\nassert mlflow.active_run().info.run_id == logger.run_id",
    'with MLflowLogger("other", run_name="child") as child:\n    child.log_metrics(auc=0.5)',
    'with MLflowLogger(run_name="failing") as child:\n    child.log_metrics(auc="high")',
]
RAISES = {1: "ZeroDivisionError", 5: "TypeError", 9: "TypeError"}


@pytest.mark.slow
def test_cells_of_a_notebook(
    client: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    from nbclient import NotebookClient
    from traitlets.config import Config

    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"cell-{number}", "source": source, "outputs": []}
        | {"execution_count": None, "metadata": {}}
        for number, source in enumerate(CELLS)
    ]
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = nbformat.from_dict(content)  # type: ignore[no-untyped-call]
    channel = {"transport": "ipc", "connection_file": str(tmp_path / "kernel.json")}
    NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=300,
        allow_errors=True,
        config=Config(KernelManager=channel),
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    raised = {
        number: output.ename
        for number, cell in enumerate(notebook.cells)
        for output in cell.outputs
        if output.output_type == "error"
    }
    assert raised == RAISES
    runs = {run.info.run_name: run for run in runs_of(client, "notebook")}
    assert set(runs) == {"left open", "child", "failing"}
    left_open = runs["left open"]
    assert left_open.info.status == "FINISHED"  # a cell's exception is not the run's
    assert left_open.data.params == {"learning_rate": "0.1"}
    history = client.get_metric_history(left_open.info.run_id, "loss")
    assert [metric.step for metric in history] == [0, 1, 2, 3]
    assert "failure" not in left_open.data.tags
    for name, status in (("child", "FINISHED"), ("failing", "FAILED")):
        assert runs[name].info.status == status
        assert runs[name].data.tags["mlflow.parentRunId"] == left_open.info.run_id


# -- the end -----------------------------------------------------------------------------------


def test_ending_twice_does_nothing(client: mlflow.MlflowClient) -> None:
    logger = MLflowLogger("ends")
    logger.end_run("FAILED")
    ended_at = client.get_run(logger.run_id).info.end_time
    logger.end_run("FINISHED")
    logger.fail(RuntimeError("late"))
    run = client.get_run(logger.run_id)
    assert (run.info.status, run.info.end_time) == ("FAILED", ended_at)
    assert "failure" not in run.data.tags


def test_an_unknown_status_is_refused_and_the_run_goes_on(client: mlflow.MlflowClient) -> None:
    with MLflowLogger("ends") as logger:
        with pytest.raises(ValueError, match="status is 'DONE', expected FINISHED, FAILED or KIL"):
            logger.end_run("DONE")  # type: ignore[arg-type]
        assert client.get_run(logger.run_id).info.status == "RUNNING"
    assert client.get_run(logger.run_id).info.status == "FINISHED"


ENDS: list[tuple[BaseException, str, str | None]] = [
    (RuntimeError("no prices"), "FAILED", "RuntimeError: no prices"),
    (KeyError(), "FAILED", "KeyError"),
    (OSError("postgresql://quant:s3cr3t@db/x"), "FAILED", "OSError: postgresql://quant:***@db/x"),
    (ValueError("x" * 5000), "FAILED", "ValueError: " + "x" * 488),
    (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
    (SystemExit(1), "FAILED", "SystemExit: 1"),
    (SystemExit("no prices"), "FAILED", "SystemExit: no prices"),
    (SystemExit(0), "FINISHED", None),
    (SystemExit(), "FINISHED", None),
]


@pytest.mark.parametrize(("error", "status", "reason"), ENDS, ids=lambda end: repr(end)[:20])
def test_what_passes_through_decides_how_a_run_ends(
    shared_database: str, error: BaseException, status: str, reason: str | None
) -> None:
    client = mlflow.MlflowClient(shared_database)
    with (
        pytest.raises(type(error)) as caught,
        MLflowLogger("ends", tracking_uri=shared_database) as logger,
    ):
        logger.log_step_metrics(step=0, loss=0.5)
        raise error
    assert caught.value is error
    run = client.get_run(logger.run_id)
    assert run.info.status == status
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.tags.get("failure") == reason
    assert mlflow.active_run() is None
    artifacts = [artifact.path for artifact in client.list_artifacts(logger.run_id)]
    assert artifacts == (["failure.txt"] if reason else [])
    if reason:
        mlflow.set_tracking_uri(shared_database)
        text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/failure.txt")
        assert "Traceback (most recent call last):" in text
        assert type(error).__name__ in text
        assert "s3cr3t" not in text


def test_a_stop_in_the_middle_of_a_write_ends_the_run_all_the_same(
    client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite's lock stays while the cursor is there, and the cursor is in the stop's traceback."""
    stops = [KeyboardInterrupt()]

    def stop(connection: object, cursor: object, statement: str, *_: object) -> None:
        if stops and statement.startswith("INSERT INTO metrics"):
            raise stops.pop()

    sqlalchemy.event.listen(sqlalchemy.Engine, "after_cursor_execute", stop)
    try:
        with pytest.raises(KeyboardInterrupt), MLflowLogger("ends") as logger:
            for step in range(1000):
                logger.log_step_metrics(step=step, loss=0.5)
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "after_cursor_execute", stop)
    run = client.get_run(logger.run_id)
    assert (run.info.status, run.data.tags["failure"]) == ("KILLED", "KeyboardInterrupt")
    assert run.data.metrics == {"loss": 0.5}
    assert caplog.text == ""


@pytest.mark.parametrize("stopped_at", ["start_beating", "Outbox"])
@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), "KILLED"), (OSError("no more threads"), "FAILED")]
)
def test_a_run_that_was_stopped_while_it_opened_is_not_called_finished(
    client: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: str,
    error: BaseException,
    status: str,
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(f"steps.tracking.mlflow_logger.{stopped_at}", stop)
    with pytest.raises(type(error)):
        MLflowLogger("ends")
    assert mlflow.active_run() is None
    (run,) = client.search_runs([client.get_experiment_by_name("ends").experiment_id])
    assert run.info.status == status


def test_a_second_ctrl_c_while_a_run_ends_does_not_make_it_a_finished_one(
    client: mlflow.MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impatient(status: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), MLflowLogger("ends") as logger:
        monkeypatch.setattr(mlflow, "end_run", impatient)
        raise KeyboardInterrupt
    assert mlflow.active_run() is None  # or MLflow would end it, as FINISHED, when Python ends
    assert client.get_run(logger.run_id).info.status == "RUNNING"  # until the next step sees to it


def test_the_first_error_is_the_one_to_be_seen(
    client: mlflow.MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(RuntimeError, match="the real reason"),
        MLflowLogger("ends") as logger,
    ):
        logger.log_step_metrics(step=0, loss=0.5)
        client.delete_run(logger.run_id)  # from now on the store refuses everything
        raise RuntimeError("the real reason")
    assert f"the failure could not be recorded in run {logger.run_id}" in caplog.text
    assert f"run {logger.run_id} could not be closed" in caplog.text
    assert mlflow.active_run() is None
    assert not mlflow.tracking.is_tracking_uri_set()


DEATHS = """
import os, sys
import mlflow.store.tracking.sqlalchemy_store
from steps.tracking.mlflow_logger import MLflowLogger

def fill(name):
    logger = MLflowLogger("deaths", run_name=name)
    for step in range(1_003):
        logger.log_step_metrics(step=step, loss=step)
    return logger

def exception():
    fill("exception")
    raise RuntimeError("no prices at http://quant:s3cr3t@prices.example")

def interrupt():
    fill("interrupt")
    raise KeyboardInterrupt

def forgotten():
    fill("forgotten")
    MLflowLogger(run_name="forgotten child").log_step_metrics(step=0, loss=1)

def ended_before():
    fill("ended before").end_run()
    raise RuntimeError("later")

def bare_exit():
    fill("bare exit")
    sys.exit(0)

for death in (exception, interrupt, forgotten, ended_before, bare_exit):
    if os.fork() == 0:
        death()
        break
    print(death.__name__, os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""


@pytest.mark.slow
def test_scripts_that_die_or_forget_lose_nothing(
    client: mlflow.MlflowClient, run_python: Callable[..., CompletedProcess[str]]
) -> None:
    # One interpreter imports what takes long; its forks die one after the other.
    result = run_python("-c", DEATHS)
    assert result.stdout.splitlines() == [
        "exception 1",
        "interrupt -2",
        "forgotten 0",
        "ended_before 1",
        "bare_exit 0",
    ], result.stderr
    runs = {run.info.run_name: run for run in runs_of(client, "deaths")}
    assert {name: run.info.status for name, run in runs.items()} == {
        "exception": "FAILED",
        "interrupt": "KILLED",
        "forgotten": "FINISHED",
        "forgotten child": "FINISHED",
        "ended before": "FINISHED",
        "bare exit": "FINISHED",
    }
    for name, run in runs.items():
        metrics = client.get_metric_history(run.info.run_id, "loss")
        assert len(metrics) == (1 if name == "forgotten child" else 1_003), name
    failure = "RuntimeError: no prices at http://quant:***@prices.example"
    assert runs["exception"].data.tags["failure"] == failure
    assert "failure" not in runs["ended before"].data.tags
    text = mlflow.artifacts.load_text(f"{runs['exception'].info.artifact_uri}/failure.txt")
    assert "in exception" in text
    assert "s3cr3t" not in text


def test_what_is_logged_after_the_end_is_kept(client: mlflow.MlflowClient) -> None:
    with MLflowLogger("ends") as logger:
        pass
    logger.log_step_metrics(step=0, loss=0.5)
    assert client.get_run(logger.run_id).data.metrics == {"loss": 0.5}
    logger.log_metrics(sharpe=1.2)
    logger.set_tags(reviewed=True)
    run = client.get_run(logger.run_id)
    assert run.data.metrics == {"loss": 0.5, "sharpe": 1.2}
    assert run.data.tags["reviewed"] == "True"
    assert run.info.status == "FINISHED"
