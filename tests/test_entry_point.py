"""What every step's command does besides its step: parse, open a run, leave cleanly."""

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import mlflow
import pytest
from conftest import clean_environment
from mlflow.exceptions import MlflowException
from pydantic import Field

from steps.entry_point import (
    ParameterError,
    StepParams,
    as_typed,
    log_resolved,
    open_step,
    parse_params,
    run_step,
)
from steps.market.price_report import PriceError
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import StepFailedError
from steps.tracking.stores import TrackingError


class Params(StepParams):
    """Parameters of a step that does nothing."""

    depth: int = Field(3, ge=1, le=9, description="how deep")
    rate: float = Field(0.1, gt=0, le=1)
    kind: Literal["plain", "fancy"] = "plain"
    strict: bool = False
    snapshot: str = "latest"


def test_defaults_and_both_spellings() -> None:
    assert parse_params(Params, []) == Params()
    found = parse_params(Params, ["--depth=5", "--rate", "1e-05", "--strict", "true"])
    assert found == Params(depth=5, rate=1e-05, strict=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth=0"], "depth='0': input should be greater than or equal to 1"),
        (["--depth=2.5"], "depth='2.5'"),
        (["--rate=abc"], "rate='abc': input should be a valid number"),
        (["--rate=nan"], "rate='nan'"),
        (["--rate=inf"], "rate='inf'"),
        (["--kind=odd"], "kind='odd': input should be 'plain' or 'fancy'"),
        (["--bogus", "3"], "unknown parameter bogus: there are depth, rate, kind"),
        (["--dept=3"], "unknown parameter dept: did you mean depth?"),
        (["--depth"], "argument --depth: expected one argument"),
        (["stray"], "unknown parameter stray"),
    ],
)
def test_what_is_not_allowed_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(ParameterError) as refused:
        parse_params(Params, arguments)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_bad_values_are_named_at_once() -> None:
    with pytest.raises(ParameterError, match=r"depth='0'.*; rate='2'"):
        parse_params(Params, ["--depth=0", "--rate=2"])


def test_parameters_are_written_as_they_are_typed() -> None:
    typed = as_typed(Params(depth=4, rate=0.25, kind="plain"), snapshot="of last year")
    assert typed == "-P depth=4 -P rate=0.25 -P snapshot='of last year'"
    assert as_typed(Params()) == ""


def test_parameters_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Params().depth = 4  # type: ignore[misc]


def test_a_step_has_a_run_with_its_parameters_and_tags(database: Path) -> None:
    with open_step("train", Params(depth=4)) as logger:
        pass
    run = logger.client.get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "train"
    # "latest" stands for an ID: it is recorded once the step has found it
    assert run.data.params == {"depth": "4", "rate": "0.1", "kind": "plain", "strict": "False"}
    assert run.data.tags["candlewick.step"] == "train"
    assert run.data.tags["mlflow.project.entryPoint"] == "train"


def test_a_child_carries_its_parents_project_tags(database: Path) -> None:
    tags = {
        "mlflow.source.name": "https://git.example.org/candlewick.git",
        "mlflow.source.type": "PROJECT",
        "mlflow.source.git.commit": "c0ffee",
        "team": "alpha",
    }
    with (
        MLflowLogger(run_name="main", tags=tags) as parent,
        open_step("train", Params()) as logger,
    ):
        found = logger.client.get_run(logger.run_id).data.tags
    assert found["mlflow.parentRunId"] == parent.run_id
    assert {name: found[name] for name in list(tags)[:3]} == {
        name: tags[name] for name in list(tags)[:3]
    }
    assert "team" not in found
    assert logger.git_commit == "c0ffee"


def test_a_step_does_not_begin_where_its_files_could_not_be_stored(database: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    location = f"file://{database}/artifacts"
    experiment_id = client.create_experiment("stock_prediction", artifact_location=location)
    refused = pytest.raises(TrackingError, match=r"mlflow.db is no folder\): make it")
    with refused, open_step("train", Params()):
        pytest.fail("the step has begun")
    (run,) = client.search_runs([experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"].startswith("artifacts cannot be stored in ")
    with MLflowLogger(), open_step("child", Params()):
        pass  # its parent was asked, and what is away since then may come back


def test_resolved_ids_become_parameter_and_tag(database: Path) -> None:
    with open_step("train", Params()) as logger:
        log_resolved(logger, snapshot="abc")
    data = logger.client.get_run(logger.run_id).data
    assert data.params["snapshot"] == data.tags["snapshot"] == "abc"


def test_where_mlflow_recorded_the_word_the_tag_holds_the_id(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    run = client.create_run("0")
    client.log_param(run.info.run_id, "snapshot", "latest")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    with open_step("train", Params()) as logger:
        log_resolved(logger, snapshot="abc")
    data = client.get_run(run.info.run_id).data
    assert (data.params["snapshot"], data.tags["snapshot"]) == ("latest", "abc")


def run_with(
    monkeypatch: pytest.MonkeyPatch, function: object, *arguments: str, **statuses: Any
) -> tuple[int, mlflow.MlflowClient]:
    monkeypatch.setattr(sys, "argv", ["steps/train.py", *arguments])
    with pytest.raises(SystemExit) as left:
        run_step("train", function, Params, **statuses)  # type: ignore[arg-type]
    return int(left.value.code or 0), mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")


def test_a_failed_step_is_one_line_and_a_failed_run(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(params: Params, logger: MLflowLogger) -> None:
        logger.log_metrics(done=1)
        raise ValueError("no such thing; bring one")

    code, client = run_with(monkeypatch, fail)
    assert code == 1
    assert capsys.readouterr().err == "candlewick train failed: no such thing; bring one\n"
    experiment = client.get_experiment_by_name("stock_prediction")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["failure"] == "ValueError: no such thing; bring one"
    assert run.data.metrics == {"done": 1.0}
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/failure.txt")
    assert "Traceback" in text


def test_a_step_that_answers_a_question_leaves_with_its_answer(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses = {"exit_status": len, "error_status": 7}
    code, client = run_with(monkeypatch, lambda params, logger: "abc", **statuses)
    assert (code, capsys.readouterr().err) == (3, "")
    experiment = client.get_experiment_by_name("stock_prediction")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run_with(monkeypatch, lambda params, logger: 1 / 0, **statuses)[0] == 7
    assert run_with(monkeypatch, lambda params, logger: "abc", "--depth=0", **statuses)[0] == 7
    assert run_with(monkeypatch, lambda params, logger: "abc")[0] == 0


REPORT = "p.csv cannot be used: 1 problem\n  line 3, column close: 'x' is not a number"


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MlflowException("(sqlite3.Error) locked\n[SQL: SELECT 1]\n(Background)"), "one"),
        (ValueError("\n  (sqlite3.Error) locked\nmore"), "one"),
        (caused(StepFailedError("(sqlite3.Error) locked\nmore"), MlflowException("")), "one"),
        (StepFailedError("(sqlite3.Error) locked\nmore"), "one"),
        (PriceError(REPORT), REPORT),
        (caused(PriceError(REPORT), KeyError("close")), REPORT),
        (
            caused(StepFailedError(f"featurize: {REPORT}"), PriceError(REPORT)),
            f"featurize: {REPORT}",
        ),
        # What a step in a process of its own has left in its run.
        (
            caused(
                StepFailedError(f"featurize: PriceError: {REPORT}"),
                StepFailedError(f"PriceError: {REPORT}"),
            ),
            f"featurize: PriceError: {REPORT}",
        ),
        (KeyError(), "KeyError"),
    ],
)
def test_a_failure_is_one_line_but_a_report_on_prices_is_whole(
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    told: str,
) -> None:
    def fail(params: Params, logger: MLflowLogger) -> None:
        raise error

    code, _ = run_with(monkeypatch, fail)
    assert code == 1
    told = "(sqlite3.Error) locked" if told == "one" else told
    assert capsys.readouterr().err == f"candlewick train failed: {told}\n"


def test_bad_parameters_fail_the_run_that_was_prepared(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    code, _ = run_with(monkeypatch, lambda params, logger: None, "--depth=0")
    assert code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    run = client.get_run(run_id)
    assert run.info.status == "FAILED"
    assert "depth='0'" in run.data.tags["failure"]


def test_secrets_stay_out_of_what_is_printed(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(params: Params, logger: MLflowLogger) -> None:
        raise OSError("no route to postgresql://quant:s3cret@db/mlflow")

    _, client = run_with(monkeypatch, fail)
    (run,) = client.search_runs([client.get_experiment_by_name("stock_prediction").experiment_id])
    told = capsys.readouterr().err + str(run.data.tags)
    assert "s3cret" not in told
    assert "quant:***@db" in told


@pytest.mark.slow
def test_a_progress_bar_where_somebody_watches(in_empty_folder: Path) -> None:
    """A real terminal: a pseudo-terminal's other end sees the bar, a pipe sees none."""
    command = [sys.executable, "-m", "steps.train", "--n_estimators=200"]
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        command, cwd=in_empty_folder, env=clean_environment(), stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(main, 4096)
        except OSError:  # Linux's word for "the other end is closed"
            break
        if not part:
            break
        seen += part
    assert process.wait(120) == 0
    assert "training xgboost" in seen.decode(errors="replace")
    piped = subprocess.run(
        command, cwd=in_empty_folder, env=clean_environment(), capture_output=True, check=True
    )
    assert b"training xgboost" not in piped.stdout + piped.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["featurize", "doctor"])
def test_the_work_goes_on_where_nobody_reads_any_more(database: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` is, once it has read enough
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"steps.{command}"],
            env=clean_environment(),
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    if command == "featurize":
        client = mlflow.MlflowClient(f"sqlite:///{database}")
        experiment = client.get_experiment_by_name("stock_prediction")
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
