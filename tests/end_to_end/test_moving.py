"""Moving house for good: to PostgreSQL and S3, where the steps go on as if nothing had happened."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import psycopg
import pytest
from mlflow.entities import ViewType
from recorded_models import fit, make_table
from services.postgres import Postgres
from services.s3 import S3
from services.tracking_server import tracking_server
from store_contents import FILES, INSIDE, NO_URI, contents, furnish, state_of

from end_to_end.conftest import Trained
from steps.entry_point import open_step
from steps.evaluate import EvaluateParams, evaluate
from steps.market.snapshot import make_snapshot
from steps.move import MoveParams, move
from steps.predict import PredictParams, predict
from steps.promote import PromoteParams, promote
from steps.reproduce import ReproduceParams, reproduce
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.snapshot_store import load_snapshot, resolve_snapshot, save_snapshot
from steps.tracking.stores import TrackingError, use_tracking_uri

pytestmark = pytest.mark.thorough


@dataclass(frozen=True)
class NewHouse:
    """An empty database and an empty bucket, which the settings name."""

    uri: str
    bucket: str

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri)


@pytest.fixture
def new_house(
    postgres_server: Postgres, s3_server: S3, monkeypatch: pytest.MonkeyPatch
) -> NewHouse:
    house = NewHouse(postgres_server.create_database(), s3_server.create_bucket())
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_BACKEND", "remote")
    monkeypatch.setenv("MLFLOW_POSTGRES_URI", house.uri)
    monkeypatch.setenv("MLFLOW_S3_BUCKET", house.bucket)
    return house


def test_the_recipe_goes_on_in_postgresql_and_s3(
    trained: Trained,
    in_empty_folder: Path,
    new_house: NewHouse,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = in_empty_folder / "old"
    old.mkdir()
    with (
        closing(sqlite3.connect(trained.folder / "mlflow.db")) as there,
        closing(sqlite3.connect(old / "mlflow.db")) as here,
    ):
        there.backup(here)
    with monkeypatch.context() as patch, use_tracking_uri(f"sqlite:///{old / 'mlflow.db'}"):
        patch.chdir(old)
        params = PromoteParams(evaluate_run_id=trained.evaluate.info.run_id, force=True)
        with open_step("promote", params) as logger:
            promote(params, logger)
        client = mlflow.MlflowClient()
        furnish(client, FILES | NO_URI)
        before, files = contents(client), state_of(old)

    move(MoveParams(source="sqlite:///old/mlflow.db"))
    assert state_of(old) == files
    assert contents(new_house.client) == before
    told = capsys.readouterr().out
    # Other tests may have left more that is good in the store that all share.
    loaded = re.search(r"(\d+) of (\d+) snapshots and models with an alias loaded", told)
    assert loaded, told
    good, all_there = map(int, loaded.groups())
    assert (good >= 2, all_there - good) == (True, 2)
    assert new_house.uri not in told
    assert not Path("mlflow.db").exists()

    train_run_id = trained.train.info.run_id
    assert new_house.client.get_run(train_run_id).info.artifact_uri.startswith(
        f"s3://{new_house.bucket}/"
    )
    judging = EvaluateParams(train_run_id=train_run_id, n_resamples=100)
    with open_step("evaluate", judging) as logger:
        assert logger.client.tracking_uri == new_house.uri
        evaluate(judging, logger)
    again = new_house.client.get_run(logger.run_id).data.metrics
    assert again["auc_roc"] == trained.evaluate.data.metrics["auc_roc"]
    forecasting = PredictParams(as_of="newest")
    with open_step("predict", forecasting) as logger:
        assert "stock_direction version 1" in predict(forecasting, logger).read_text()
    proving = ReproduceParams(run_id=train_run_id)
    with open_step("reproduce", proving) as logger:
        assert reproduce(proving, logger).identical


@pytest.fixture
def folder_store(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in text files: a snapshot, a champion, and what is easily lost."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = in_empty_folder / "mlruns"
    table = make_table()
    snapshot = make_snapshot(
        table, feature_set="planted", version="1", label={"name": "direction", "horizon": 1}
    )
    with use_tracking_uri(folder.as_uri()):
        client = mlflow.MlflowClient()
        furnish(client)
        with MLflowLogger("stock_prediction", "featurize") as logger:
            save_snapshot(logger, snapshot, {}, "abc")
        with MLflowLogger("stock_prediction", "train") as logger:
            model_uri = logger.log_model(fit(table, "signal"), metadata={"horizon": 1})
            page = f"#/experiments/{logger.experiment_id}/runs/{logger.run_id}"
            logger.set_tags(**{"mlflow.note.content": f"[this run]({page})"})
        client.create_registered_model("stock_direction")
        client.create_model_version("stock_direction", model_uri, logger.run_id)
        client.set_registered_model_alias("stock_direction", "champion", "1")
    return folder


def test_a_folder_store_is_found_whole_behind_a_server(
    folder_store: Path,
    new_house: NewHouse,
    s3_server: S3,
    in_empty_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with use_tracking_uri(folder_store.as_uri()):
        before, files = contents(mlflow.MlflowClient()), state_of(folder_store)
    move(MoveParams(source="file:./mlruns", artifact_uri="mlflow-artifacts:/"))
    assert state_of(folder_store) == files
    assert "2 of 4 snapshots and models" in capsys.readouterr().out
    folder_store.rename("gone")
    with tracking_server(
        in_empty_folder,
        backend_store_uri=new_house.uri,
        artifacts_destination=f"s3://{new_house.bucket}",
        environment=s3_server.environment(),
    ) as server:
        client = mlflow.MlflowClient(server.uri)
        with use_tracking_uri(server.uri):
            after = contents(client)
            # Where a folder has the files of deleted experiments, MLflow itself does not look.
            (name,) = (name for name, about in before.items() if INSIDE in str(about))
            assert before[name].pop("files") == {}
            assert after[name].pop("files").keys() == {"file.txt"}
            assert as_a_server_tells(after) == as_a_server_tells(before)
            assert load_snapshot(resolve_snapshot(client, None)).table.equals(make_table())
            load_model("models:/stock_direction@champion")
        # What is recorded from now on has places of the same kind, and numbers that go on.
        numbers = [
            int(each.experiment_id) for each in client.search_experiments(view_type=ViewType.ALL)
        ]
        assert sorted(numbers) == list(range(len(numbers)))
        experiment = client.create_experiment("next")
        assert int(experiment) == len(numbers)
        new = client.create_run(experiment).info
        old = client.search_runs([str(number) for number in numbers])[0].info
        assert place_of(new.artifact_uri, new) == place_of(old.artifact_uri, old)
        linked = "tags.mlflow.note.content LIKE '[this run]%'"
        (run,) = client.search_runs([str(number) for number in numbers], linked)
        page = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        assert run.data.tags["mlflow.note.content"] == f"[this run]({page})"


def as_a_server_tells(told: Any) -> Any:
    """Return what was told with nothing in the form that a server gives it: as an empty text."""
    if isinstance(told, dict):
        return {name: as_a_server_tells(value) for name, value in told.items()}
    if isinstance(told, tuple):
        return tuple(map(as_a_server_tells, told))
    return "" if told is None else told


def place_of(uri: str, run: mlflow.entities.RunInfo) -> str:
    """Return a place without what is of one run."""
    return uri.replace(run.run_id, "RUN").replace(f"/{run.experiment_id}/", "/EXPERIMENT/")


@pytest.fixture
def small(database: Path) -> mlflow.MlflowClient:
    """A store with one run that has a file."""
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    run = client.create_run("0")
    client.log_text(run.info.run_id, "content", "file.txt")
    client.set_terminated(run.info.run_id)
    return client


def test_a_database_without_tables_is_filled_and_one_with_runs_is_not(
    small: mlflow.MlflowClient,
    new_house: NewHouse,
    postgres_server: Postgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = postgres_server.create_database(migrated=False)
    monkeypatch.setenv("MLFLOW_POSTGRES_URI", fresh)
    move(MoveParams())
    (run,) = mlflow.MlflowClient(fresh).search_runs(["0"])
    assert run.info.artifact_uri == f"s3://{new_house.bucket}/0/{run.info.run_id}/artifacts"
    with pytest.raises(TrackingError, match="is not empty"):
        move(MoveParams())


def too_long(database: sqlite3.Connection) -> None:
    database.execute("UPDATE runs SET name = ?", ("n" * 251,))


def with_nul(database: sqlite3.Connection) -> None:
    database.execute("UPDATE tags SET value = ?", ("a\0b",))


def nothing(database: sqlite3.Connection) -> None:
    """Leave it as it is."""


@pytest.mark.parametrize(
    ("spoil", "bucket", "user", "reason"),
    [
        (too_long, None, None, r"runs\.name of \w+ has more than 250 characters"),
        (with_nul, None, None, r"tags\.value of mlflow\.runName, \w+ has the character NUL"),
        (nothing, "b" * 190, None, "characters, of which PostgreSQL holds 200: name --artifacts"),
        (nothing, None, "reader", "does not take the rows: permission denied for table"),
    ],
)
def test_what_postgresql_does_not_take_is_known_before_anything_is_copied(
    spoil: Callable[[sqlite3.Connection], None],
    bucket: str | None,
    user: str | None,
    reason: str,
    small: mlflow.MlflowClient,
    new_house: NewHouse,
    s3_server: S3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        spoil(database)
    if user:
        parts = urlsplit(new_house.uri)
        with psycopg.connect(new_house.uri) as connection:
            connection.execute(f"DROP ROLE IF EXISTS {user}")
            connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'of the reader'")
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {user}")
        login = f"{user}:of%20the%20reader@{parts.netloc.rpartition('@')[2]}"
        monkeypatch.setenv("MLFLOW_POSTGRES_URI", parts._replace(netloc=login).geturl())
    artifacts = f"s3://{new_house.bucket}/{bucket}" if bucket else "auto"
    with pytest.raises(TrackingError, match=reason) as refused:
        move(MoveParams(artifacts=artifacts))
    assert len(str(refused.value).splitlines()) == 1
    assert new_house.client.search_runs(["0"]) == []
    assert s3_server.names(new_house.bucket) == []
