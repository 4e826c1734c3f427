"""Stopped half way: every run is closed, nothing half-made is picked up, no process is left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from mlflow.entities import Run

from end_to_end.recipe import Recorded, environment, told
from end_to_end.servers import serve
from steps.tracking.snapshot_store import (
    SnapshotNotFoundError,
    load_snapshot,
    resolve_snapshot,
)

pytestmark = pytest.mark.slow

TRAINS_FOR_MINUTES = {"n_estimators": 100_000, "early_stopping_rounds": 0, "n_jobs": 1}


class Started:
    """A command in a session of its own, as in a terminal."""

    def __init__(self, *command: str, folder: Path, **changes: str) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(**changes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # Whoever runs the tests in the background has made Ctrl-C of no effect for all below.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def stop(self, how: signal.Signals, *, everyone: bool = False) -> list[str]:
        """Send a signal, wait for the end, and return what was said on standard error."""
        if everyone:
            os.killpg(self.process.pid, how)
        else:
            self.process.send_signal(how)
        _, error = self.process.communicate(timeout=60)
        return told(error)

    def somebody_is_left(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    """Return a function that starts commands; what is left of them at the end is killed."""
    started: list[Started] = []

    def begin(*command: str, folder: Path, **changes: str) -> Started:
        started.append(Started(*command, folder=folder, **changes))
        return started[-1]

    yield begin
    for each in started:
        if each.somebody_is_left():
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait()
        if each.process.stderr:
            each.process.stderr.close()


def module(name: str, **typed: object) -> list[str]:
    return [sys.executable, "-m", name, *(f"--{key}={value}" for key, value in typed.items())]


def wait_for(condition: Callable[[], bool], process: Started) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert process.process.poll() is None, process.process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.02)


def is_training(recorded: Recorded) -> bool:
    """Whether a run has split its rows, which is the last thing before the first round."""
    return any(
        run.info.status == "RUNNING" and "dataset/train_size" in run.data.metrics
        for run in recorded.steps("train")
    )


def assert_stopped(run: Run, by: str, status: str = "KILLED") -> None:
    assert run.info.status == status
    assert run.data.tags["failure"] == f"Stopped: stopped by {by}"


@pytest.fixture
def folder(new_folder: Callable[[], Path]) -> Path:
    return new_folder()


def test_sigterm_during_training(
    project: Path, folder: Path, start: Callable[..., Started]
) -> None:
    command = module("steps.pipeline", **TRAINS_FOR_MINUTES)
    pipeline = start(*command, folder=folder, PYTHONPATH=str(project))
    recorded = Recorded(folder)
    wait_for(lambda: is_training(recorded), pipeline)
    said = pipeline.stop(signal.SIGTERM)
    assert pipeline.process.returncode == 143
    assert said == ["candlewick main failed: stopped by SIGTERM"]
    (main,) = recorded.steps("main")
    children = recorded.children(main)
    assert_stopped(main, "SIGTERM")
    assert_stopped(children["train"], "SIGTERM")
    assert children["featurize"].info.status == "FINISHED"


DROPS_EXCEPTIONS = {
    "the callback of a weak reference": """
class Gone: pass
gone = Gone()
watched = weakref.ref(gone, stop)
def work(*_):
    global gone
    gone = None
    time.sleep(60)
""",
    "__del__": """
class Gone:
    __del__ = stop
def work(*_):
    Gone()
    time.sleep(60)
""",
    "a function that C code calls": """
called_by_c = ctypes.CFUNCTYPE(None)(stop)
def work(*_):
    called_by_c()
    time.sleep(60)
""",
}


@pytest.mark.parametrize("where", DROPS_EXCEPTIONS)
def test_sigterm_where_python_drops_exceptions(
    where: str, project: Path, folder: Path, start: Callable[..., Started]
) -> None:
    begin = """
import ctypes, os, signal, time, weakref
from steps.entry_point import StepParams, run_step
def stop(*_): os.kill(os.getpid(), signal.SIGTERM)
"""
    code = f"{begin}{DROPS_EXCEPTIONS[where]}run_step('train', work, StepParams)"
    step = start(sys.executable, "-c", code, folder=folder, PYTHONPATH=str(project))
    _, error = step.process.communicate(timeout=50)  # less than the step's work lasts
    assert told(error) == ["candlewick train failed: stopped by SIGTERM"]
    assert step.process.returncode == 143
    (run,) = Recorded(folder).steps("train")
    assert_stopped(run, "SIGTERM")


def test_sigterm_stops_a_step_in_a_process_of_its_own(
    project: Path, folder: Path, start: Callable[..., Started]
) -> None:
    command = module("steps.pipeline", isolation="project", **TRAINS_FOR_MINUTES)
    pipeline = start(*command, folder=folder, PYTHONPATH=str(project))
    recorded = Recorded(folder)
    wait_for(lambda: is_training(recorded), pipeline)
    said = pipeline.stop(signal.SIGTERM)
    assert pipeline.process.returncode == 143
    assert said == [
        "candlewick train failed: stopped by SIGTERM",
        "candlewick main failed: stopped by SIGTERM",
    ]
    (main,) = recorded.steps("main")
    assert_stopped(main, "SIGTERM")
    # MLflow has the last word on a project run: one that ends with a status but 0 is FAILED.
    assert_stopped(recorded.children(main)["train"], "SIGTERM", "FAILED")
    assert not pipeline.somebody_is_left()


def test_ctrl_c_in_the_terminal_of_mlflow_run(
    project: Path, folder: Path, start: Callable[..., Started]
) -> None:
    # The terminal interrupts all its processes at once, and mlflow run then ends its child again.
    typed = [f"-P{name}={value}" for name, value in TRAINS_FOR_MINUTES.items()]
    command = [sys.executable, "-m", "mlflow", "run", str(project), "--env-manager", "local"]
    launched = start(*command, *typed, folder=folder)
    recorded = Recorded(folder)
    wait_for(lambda: is_training(recorded), launched)
    said = launched.stop(signal.SIGINT, everyone=True)
    assert launched.process.returncode != 0
    assert "candlewick main failed: stopped by SIGINT" in said
    (main,) = recorded.steps("main")
    assert_stopped(main, "SIGINT", "FAILED")
    assert_stopped(recorded.children(main)["train"], "SIGINT")
    assert not launched.somebody_is_left()


@dataclass
class Silent:
    """A server that takes requests and then thinks about them."""

    address: str
    asked: threading.Event


@pytest.fixture
def silent() -> Iterator[Silent]:
    asked, enough = threading.Event(), threading.Event()

    class NeverAnswers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            enough.wait(120)

        do_HEAD = do_POST = do_GET  # noqa: N815 (the names that http.server asks for)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with serve(NeverAnswers) as address:
        yield Silent(address, asked)
        enough.set()


@pytest.mark.parametrize("name", ["sync", "doctor", "snapshot show"])
def test_ctrl_c_is_one_line_in_commands_without_a_run(
    name: str, project: Path, folder: Path, start: Callable[..., Started], silent: Silent
) -> None:
    command, *arguments = name.split()
    changes = {"PYTHONPATH": str(project), "MLFLOW_TRACKING_URI": silent.address}
    asking = start(*module(f"steps.{command}"), *arguments, folder=folder, **changes)
    wait_for(silent.asked.is_set, asking)
    assert asking.stop(signal.SIGINT) == [f"candlewick {command} failed: stopped by SIGINT"]
    assert asking.process.returncode == 130


def test_ctrl_c_while_a_step_is_imported_ends_it_without_a_word(
    project: Path, folder: Path, start: Callable[..., Started]
) -> None:
    (folder / "sitecustomize.py").write_text("""
import os, signal, sys
class Finder:
    def find_spec(name, *_):
        if name == "mlflow":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
""")
    path = os.pathsep.join([str(folder), str(project)])
    step = start(*module("steps.pipeline"), folder=folder, PYTHONPATH=path)
    _, error = step.process.communicate(timeout=60)
    assert (step.process.returncode, error) == (-signal.SIGINT, "")


def test_ctrl_c_during_featurize_leaves_no_snapshot(
    project: Path, folder: Path, start: Callable[..., Started], silent: Silent
) -> None:
    recorded = Recorded(folder)
    command = module("steps.pipeline", prices=f"{silent.address}/prices.csv", reuse="none")
    pipeline = start(*command, folder=folder, PYTHONPATH=str(project))
    wait_for(silent.asked.is_set, pipeline)
    said = pipeline.stop(signal.SIGINT)
    assert pipeline.process.returncode == 130
    assert said == ["candlewick main failed: stopped by SIGINT"]
    (main,) = recorded.steps("main")
    assert_stopped(main, "SIGINT")
    assert_stopped(recorded.children(main)["featurize"], "SIGINT")
    with pytest.raises(SnapshotNotFoundError):
        resolve_snapshot(recorded.client, main.info.experiment_id)


def test_sigkill_while_a_snapshot_is_stored_leaves_a_whole_one_or_none(
    project: Path, folder: Path, start: Callable[..., Started]
) -> None:
    recorded = Recorded(folder)
    featurize = start(*module("steps.featurize"), folder=folder, PYTHONPATH=str(project))
    wait_for(lambda: any(folder.glob("mlruns/*/*/artifacts/snapshot/*")), featurize)
    featurize.stop(signal.SIGKILL)
    (run,) = recorded.steps("featurize")
    try:
        stored = resolve_snapshot(recorded.client, run.info.experiment_id)
    except SnapshotNotFoundError:
        assert run.info.status == "RUNNING"  # as nobody could tell MLflow
    else:
        load_snapshot(stored)
