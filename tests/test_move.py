"""``python -m steps.move``: from one database on this machine to another, and what is refused."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import ViewType
from recorded_models import Recorded
from services.sqlite import place_database
from store_contents import FILES, NO_URI, contents, furnish, state_of

from steps.entry_point import ParameterError
from steps.move import MoveParams, move
from steps.tracking.journal import Journal
from steps.tracking.messages import of_tags
from steps.tracking.moving_plan import Plan
from steps.tracking.stores import TrackingError, use_tracking_uri

pytestmark = pytest.mark.slow

OLD = "sqlite:///old/mlflow.db"


@pytest.fixture
def old(migrated_database: Path, in_empty_folder: Path) -> mlflow.MlflowClient:
    """A small store in the folder ``old``."""
    Path("old").mkdir()
    place_database(migrated_database, in_empty_folder / "old")
    return mlflow.MlflowClient(f"sqlite:///{in_empty_folder}/old/mlflow.db")


@pytest.fixture
def new(
    migrated_database: Path, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> mlflow.MlflowClient:
    """An empty store in the folder ``new``, which is the one that the settings name."""
    Path("new").mkdir()
    place_database(migrated_database, in_empty_folder / "new")
    uri = f"sqlite:///{in_empty_folder}/new/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return mlflow.MlflowClient(uri)


def record(client: mlflow.MlflowClient, text: str = "content") -> str:
    run = client.create_run("0")
    client.log_text(run.info.run_id, text, "file.txt")
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def runs_of(client: mlflow.MlflowClient) -> set[str]:
    return {run.info.run_id for run in client.search_runs(["0"])}


def test_everything_comes_along(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(old, FILES | NO_URI)
    last = max(int(each.experiment_id) for each in old.search_experiments(view_type=ViewType.ALL))
    before, files = contents(old), state_of(Path("old"))
    move(MoveParams(source=OLD))
    assert state_of(Path("old")) == files
    Path("old").rename("gone")
    assert contents(new) == before
    assert "written, read back and equal" in capsys.readouterr().out
    assert new.create_experiment("next") == str(last + 1)


def test_what_names_an_experiment_follows_its_number() -> None:
    plan = Plan((), {}, {123456789012345678: 4})
    moved = plan.rewrite(
        "entity_associations",
        {
            "source_type": "experiment",
            "source_id": "123456789012345678",
            "destination_type": "evaluation_dataset",
            "destination_id": "123456789012345678",
        },
    )
    assert (moved["source_id"], moved["destination_id"]) == ("4", "123456789012345678")
    tag = {"key": "_mlflow_experiment_ids", "value": ",1,123456789012345678,"}
    assert plan.rewrite("registered_model_tags", tag)["value"] == ",1,4,"
    text = "[a](#/experiments/123456789012345678/runs/1) [b](#/experiments/1/runs/2)"
    assert plan.rewrite("tags", {"key": "mlflow.note.content", "value": text})["value"] == (
        "[a](#/experiments/4/runs/1) [b](#/experiments/1/runs/2)"
    )
    assert plan.rewrite("runs", {"experiment_id": 1, "artifact_uri": None})["experiment_id"] == 1


@pytest.mark.slow
def test_traces_come_along(old: mlflow.MlflowClient, new: mlflow.MlflowClient) -> None:
    with use_tracking_uri(old.tracking_uri):
        with mlflow.start_span("asking") as span:
            span.set_inputs({"question": "größe?"})
        mlflow.flush_trace_async_logging()
        before = mlflow.get_trace(span.trace_id)
    move(MoveParams(source=OLD))
    with use_tracking_uri(new.tracking_uri):
        after = mlflow.get_trace(span.trace_id)
    assert after.data.to_dict() == before.data.to_dict()
    place = Path("new/mlruns/0/traces", span.trace_id, "artifacts").absolute()
    assert after.info.tags["mlflow.artifactLocation"] == str(place)


@pytest.mark.slow
def test_a_version_from_elsewhere_keeps_its_place_and_is_told(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path("my model").absolute()
    place.mkdir()
    old.create_registered_model("mine")
    old.create_model_version("mine", str(place))
    move(MoveParams(source=OLD))
    assert new.get_model_version_download_uri("mine", "1") == str(place)
    assert f"left where it is, since it belongs to no run: version 1 of mine ({place})" in (
        capsys.readouterr().out
    )


@pytest.mark.slow
def test_what_a_run_has_logged_must_be_in_the_store(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient
) -> None:
    run = record(old)
    journal = Journal(run, str(old.tracking_uri))
    journal.append(of_tags({"late": "tag"}, run))
    journal.close()
    with pytest.raises(TrackingError, match=rf"run {run} has logged what .* python -m steps\.sync"):
        move(MoveParams(source=OLD))
    assert runs_of(new) == set()


@pytest.mark.slow
def test_an_interrupted_move_leaves_an_empty_database_and_is_repeated(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {record(old), record(old)}
    last = Path("new/mlruns/0", max(runs), "artifacts")
    last.mkdir(parents=True)
    (last / "stranger.txt").write_text("nobody knows it")
    with pytest.raises(TrackingError, match=r"has a file that .* does not have, stranger\.txt"):
        move(MoveParams(source=OLD))
    assert runs_of(new) == set()
    (last / "stranger.txt").unlink()
    (last / "file.txt").write_text("conte")  # as a process that was killed leaves it
    there = len(list(Path("new/mlruns").rglob("file.txt"))) - 1
    capsys.readouterr()
    move(MoveParams(source=OLD))
    assert runs_of(new) == runs
    assert (last / "file.txt").read_text() == "content"
    told = capsys.readouterr().out
    assert "2 files (0.0 MB)" in told
    assert (f"{there} were there already" in told) == (there > 0)


@pytest.mark.slow
def test_artifacts_behind_a_server_come_from_where_it_keeps_them(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient
) -> None:
    experiment = old.create_experiment("of a server", "mlflow-artifacts:/7")
    run = old.create_run(experiment)
    old.set_terminated(run.info.run_id)
    file = Path("old/mlartifacts/7", run.info.run_id, "artifacts", "file.txt")
    file.parent.mkdir(parents=True)
    file.write_text("content")
    with pytest.raises(TrackingError, match="--source_artifacts"):
        move(MoveParams(source=OLD))
    move(MoveParams(source=OLD, source_artifacts="old/mlartifacts"))
    (moved,) = new.search_runs([experiment])
    assert Path(moved.info.artifact_uri, "file.txt").read_text() == "content"
    assert Path(moved.info.artifact_uri).is_relative_to(Path("new/mlruns").absolute())


@pytest.mark.slow
def test_what_is_in_an_object_store_stays_there(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient
) -> None:
    experiment = old.create_experiment("remote", "s3://bucket/some/where")
    run = old.create_run(experiment)
    old.set_terminated(run.info.run_id)
    move(MoveParams(source=OLD))
    place = f"s3://bucket/some/where/{run.info.run_id}/artifacts"
    assert new.get_run(run.info.run_id).info.artifact_uri == place
    assert new.get_experiment(experiment).artifact_location == "s3://bucket/some/where"


@pytest.mark.slow
def test_what_was_damaged_before_does_not_stop_a_move_and_is_told(
    migrated_database: Path, new: mlflow.MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old").mkdir()
    recorded = Recorded(migrated_database, Path("old").absolute())
    move(MoveParams(source=OLD, artifacts="copy"))  # all is well
    assert "1 of 1 snapshots and models" in capsys.readouterr().out
    next(Path("old").rglob("features.parquet")).write_bytes(b"no table")
    shutil.copy(migrated_database, "new/mlflow.db")
    move(MoveParams(source=OLD))
    told = capsys.readouterr().out
    assert f"snapshot {recorded.snapshot.snapshot_id} of run" in told
    assert "cannot be used, nor could it before" in told
    assert "0 of 1 snapshots and models" in told


@pytest.mark.slow
def test_somebody_writing_stops_a_move(old: mlflow.MlflowClient, new: mlflow.MlflowClient) -> None:
    record(old)

    def tell(line: str) -> None:
        if "SHA-256" in line:
            record(old)

    with pytest.raises(TrackingError, match="has changed meanwhile"):
        move(MoveParams(source=OLD), tell)
    assert runs_of(new) == set()


@pytest.mark.slow
def test_a_running_run_stops_a_move_unless_it_may_come_along(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient
) -> None:
    run = old.create_run("0", run_name="busy").info.run_id
    with pytest.raises(
        TrackingError, match=rf"{run} \(busy\) has not ended: wait, .*allow_running"
    ):
        move(MoveParams(source=OLD))
    move(MoveParams(source=OLD, allow_running=True))
    assert new.get_run(run).info.status == "RUNNING"


@pytest.mark.slow
def test_two_moves_into_one_database_do_not_mix(
    old: mlflow.MlflowClient, new: mlflow.MlflowClient
) -> None:
    record(old)
    move(MoveParams(source=OLD))
    with pytest.raises(TrackingError, match=r"is not empty \(.*1 runs.*\): name a new database"):
        move(MoveParams(source=OLD))


def older(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '1bd49d398cd2'")


def foreign(folder: Path) -> None:
    (folder / "mlflow.db").unlink()
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")


def no_database(folder: Path) -> None:
    (folder / "mlflow.db").write_text("no database at all")


def by_a_server(folder: Path) -> None:
    with closing(sqlite3.connect("new/mlflow.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")


def nothing(folder: Path) -> None:
    """Leave it as it is."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "target", "spoil", "reason"),
    [
        ({"source": "sqlite:///none.db"}, None, nothing, "there is no none.db to move"),
        ({"source": "file:./none"}, None, nothing, "there is no folder .*none to move"),
        ({"source": "file:./old"}, None, nothing, "old is no folder store: there is no experiment"),
        ({"source": "http://127.0.0.1:1"}, None, nothing, "expected sqlite:///… or file:…"),
        ({}, OLD, nothing, "is both the old store and the new one: set MLFLOW_TRACKING_URI"),
        ({}, "http://127.0.0.1:1", nothing, "is no database: move into the one behind it"),
        ({}, "file:./elsewhere", nothing, "is no database"),
        ({}, None, older, "has schema 1bd49d398cd2, .*`mlflow db upgrade sqlite:///old/mlflow.db`"),
        ({}, None, foreign, "holds nothing of MLflow's"),
        ({}, None, no_database, "cannot be read: file is not a database"),
        ({}, None, by_a_server, "made by a server .*--artifact_uri=mlflow-artifacts:/"),
    ],
)
def test_what_cannot_be_moved_is_refused(
    given: dict[str, str],
    target: str | None,
    spoil: Callable[[Path], None],
    reason: str,
    old: mlflow.MlflowClient,
    new: mlflow.MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if target:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", target)
    spoil(Path("old"))
    with pytest.raises(TrackingError, match=reason) as refused:
        move(MoveParams(**{"source": OLD, **given}))
    assert "\n" not in str(refused.value)
    assert runs_of(new) == set()


def test_a_database_elsewhere_needs_a_place_for_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://127.0.0.1:1/mlflow")
    with pytest.raises(ParameterError, match="artifacts=auto: nothing says where they go"):
        move(MoveParams(source=OLD))


@pytest.mark.slow
def test_the_command_says_what_it_does_and_hides_passwords(run_python: Callable) -> None:
    uri = "postgresql://somebody:s3cret@127.0.0.1:1/mlflow"
    remote = {"MLFLOW_POSTGRES_URI": uri, "MLFLOW_BACKEND": "remote", "MLFLOW_S3_BUCKET": "bucket"}
    told = run_python("-m", "steps.move", "--source=sqlite:///none.db", **remote)
    assert told.returncode == 1
    assert "postgresql://somebody:***@127.0.0.1:1/mlflow, artifacts to s3://bucket" in told.stdout
    assert "s3cret" not in told.stdout + told.stderr
