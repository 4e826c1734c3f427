"""What goes wrong says so in one line, with a status that is not 0, in a run that is FAILED."""

import io
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from end_to_end.conftest import Launched, Trained
from end_to_end.recipe import mlflow_run, run, told
from steps.market.prices import SAMPLE, load_prices
from steps.tracking.snapshot_store import find_by_key

pytestmark = pytest.mark.slow

COMMAND_LINE = ("--env-manager", "local")


def assert_refused(done: Launched, step: str, *words: str) -> None:
    """Make sure that a run failed for the reason expected, and that everybody can read it."""
    assert not done.succeeded
    assert len(done.lines) == 1, done.lines
    assert done.lines[0].startswith(f"candlewick {step} failed: ")
    assert done.run.info.status == "FAILED"
    for word in words:
        assert word in done.lines[0]
        assert word in done.run.data.tags["failure"]


# -- from the command line -----------------------------------------------------------------------


def test_a_bad_value_on_the_command_line(project: Path, trained: Trained) -> None:
    done = mlflow_run(str(project), *COMMAND_LINE, "-P", "max_depth=0", cwd=trained.folder)
    assert done.returncode == 1
    (line,) = told(done.stderr)
    reason = "max_depth='0': input should be greater than or equal to 1"
    assert line == f"candlewick main failed: {reason}"
    failed = trained.recorded.runs()[-1]
    assert failed.info.status == "FAILED"
    assert reason in failed.data.tags["failure"]
    assert not trained.recorded.children(failed)


# -- through mlflow.projects.run -----------------------------------------------------------------


def test_a_failing_step_fails_its_parent(trained: Trained, launch: Callable[..., Launched]) -> None:
    done = launch("main", trained.folder, prices="nowhere.csv")
    assert_refused(done, "main", "featurize: nowhere.csv does not exist")
    (child,) = trained.recorded.children(done.run).values()
    assert child.info.status == "FAILED"
    assert "nowhere.csv does not exist" in child.data.tags["failure"]
    assert done.run.data.tags["failed_step"] == child.data.tags["candlewick.step"] == "featurize"


@pytest.mark.parametrize(
    ("step", "typed", "words"),
    [
        ("train", {"learning_rate": "abc"}, ["learning_rate='abc'", "valid number"]),
        ("featurize", {"bogus": "1"}, ["unknown parameter bogus", "prices, feature_set"]),
        ("featurize", {"feature_set": "cores"}, ["no feature set 'cores'", "core"]),
        ("train", {"feature_snapshot_id": "0" * 32}, ["no feature snapshot 000", "1 known"]),
        ("train", {"feature_snapshot_id": "x' OR 1 --"}, ["is no snapshot ID"]),
        ("evaluate", {"train_run_id": "0" * 32}, ["there is no run", "latest"]),
        ("evaluate", {"train_run_id": "featurize"}, ["featurize run", "expected a FINISHED train"]),
    ],
)
def test_a_bad_value_is_told_in_one_line(
    step: str,
    typed: dict[str, str],
    words: list[str],
    trained: Trained,
    launch: Callable[..., Launched],
) -> None:
    if typed.get("train_run_id") == "featurize":
        typed = {"train_run_id": trained.featurize.info.run_id}
    assert_refused(launch(step, trained.folder, **typed), step, *words)


def test_broken_prices_fail_featurize_and_its_parent_in_a_process_of_its_own(
    trained: Trained, tmp_path: Path, launch: Callable[..., Launched]
) -> None:
    prices = tmp_path / "broken prices.csv"
    prices.write_text(
        "date,symbol,open,high,low,close,volume\n"
        "2020-01-02,A,1,2,0.5,1.5,100\n"
        "2020-01-03,A,1,2,0.5,x,100\n"
    )
    done = launch("main", trained.folder, prices=str(prices), isolation="project")
    assert not done.succeeded
    # The child's process and the parent's, each with the reason and the place in the file.
    child_line, child_place, parent_line, parent_place = done.lines
    assert child_line == f"candlewick featurize failed: {prices} cannot be used: 1 problem"
    assert parent_line.startswith("candlewick main failed: featurize: ")
    assert "line 3, column close: 'x' is not a number" in child_place
    assert child_place == parent_place
    (child,) = trained.recorded.children(done.run).values()
    assert child.info.status == done.run.info.status == "FAILED"
    assert "'x' is not a number" in child.data.tags["failure"]
    assert done.run.data.tags["failed_step"] == "featurize"


# -- snapshots that are not what they were ---------------------------------------------------------


@contextmanager
def damaged(path: Path, content: bytes | None) -> Iterator[None]:
    """Have another content in a file, or no file, for a while."""
    original = path.read_bytes()
    path.unlink() if content is None else path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(original)


def with_one_value_changed(path: Path) -> bytes:
    """Return a feature table as it is stored, but for the last bits of one number."""
    table = pq.read_table(path)
    values = table["rsi_14"].to_numpy().copy()
    values[-1] = np.nextafter(values[-1], np.float32(100))
    where = table.schema.get_field_index("rsi_14")
    stream = io.BytesIO()
    pq.write_table(table.set_column(where, "rsi_14", pa.array(values)), stream)
    return stream.getvalue()


@pytest.mark.parametrize("damage", ["deleted", "cut short", "one value changed"])
def test_a_damaged_snapshot_is_neither_used_nor_reused(
    damage: str, trained: Trained, launch: Callable[..., Launched]
) -> None:
    path = trained.recorded.artifacts(trained.featurize) / "snapshot" / "features.parquet"
    content = {
        "deleted": None,
        "cut short": path.read_bytes()[:-1000],
        "one value changed": with_one_value_changed(path),
    }[damage]
    tags = trained.featurize.data.tags
    experiment_id = trained.featurize.info.experiment_id
    with damaged(path, content):
        done = launch("train", trained.folder)
        found = find_by_key(trained.recorded.client, experiment_id, tags["feature_key"])
    words = ("is not used", "features.parquet", "Run featurize again")
    assert_refused(done, "train", *words)
    assert tags["feature_snapshot_id"] in done.lines[0]
    assert found is None
    whole = find_by_key(trained.recorded.client, experiment_id, tags["feature_key"])
    assert whole is not None


@pytest.mark.thorough
def test_another_snapshot_is_refused_unless_asked_for(
    trained: Trained, launch: Callable[..., Launched]
) -> None:
    fewer = load_prices(SAMPLE).table.query("symbol != 'FB'")
    fewer.to_parquet(trained.folder / "fewer.parquet", index=False)
    other = launch("featurize", trained.folder, prices=str(trained.folder / "fewer.parquet"))
    assert other.succeeded, other.lines
    its_id = other.run.data.tags["feature_snapshot_id"]
    typed = {"train_run_id": trained.train.info.run_id, "feature_snapshot_id": its_id}
    refused = launch("evaluate", trained.folder, **typed)
    trained_on = trained.train.data.tags["feature_snapshot_id"]
    assert_refused(refused, "evaluate", trained_on, its_id, "-P allow_other_snapshot=true")

    accepted = launch("evaluate", trained.folder, **typed, allow_other_snapshot="true")
    assert accepted.succeeded, accepted.lines
    assert accepted.run.data.tags["feature_snapshot_id"] == its_id
    assert "verdict" in accepted.run.data.tags


# -- nowhere to record -----------------------------------------------------------------------------


def fail_to_start(
    project: Path, folder: Path, module: str = "steps.featurize", **changes: str
) -> str:
    """Run a step that cannot record anything, and return its one line."""
    done = run(sys.executable, "-m", module, cwd=folder, PYTHONPATH=str(project), **changes)
    assert done.returncode == 1
    assert not done.stdout
    (line,) = told(done.stderr)
    return line


def test_a_deleted_experiment(project: Path, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment_id = client.create_experiment("stock_prediction")
    client.delete_experiment(experiment_id)
    line = fail_to_start(project, folder)
    assert "experiment 'stock_prediction' was deleted" in line
    assert f"mlflow experiments restore --experiment-id {experiment_id}" in line


def test_a_server_that_is_not_there(project: Path, tmp_path: Path) -> None:
    with socket.socket() as nobody:  # bound, so that nobody else takes the port; not listening
        nobody.bind(("127.0.0.1", 0))
        uri = f"http://quant:s3cret@127.0.0.1:{nobody.getsockname()[1]}"
        line = fail_to_start(project, tmp_path, MLFLOW_TRACKING_URI=uri)
    assert line.startswith("candlewick featurize failed: the tracking server http://quant:***@")
    assert "does not answer (" in line
    assert "s3cret" not in line
    assert not any(tmp_path.iterdir())


@pytest.mark.thorough
def test_a_server_that_says_nothing(project: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = run(
            *(sys.executable, "-m", "steps.pipeline"),
            cwd=tmp_path,
            PYTHONPATH=str(project),
            MLFLOW_TRACKING_URI=uri,
        )
    assert done.returncode == 1
    *waiting, line = told(done.stderr)
    assert line.startswith(f"candlewick main failed: the tracking server {uri} does not answer")
    # The tests may keep this machine so busy that it waits a little longer, and says so.
    assert all("is there, but does not answer soon" in each for each in waiting)


def test_a_folder_that_may_not_be_written(project: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
    elif Path("/proc/self").exists():
        tmp_path = Path("/proc")  # where even root cannot make a file
    else:
        pytest.skip("run as root, whom only Linux's /proc keeps from writing")
    line = fail_to_start(project, tmp_path)
    assert f"sqlite:///{tmp_path / 'mlflow.db'} cannot be opened" in line
    assert "set MLFLOW_TRACKING_URI to another one" in line
