"""predict: what it writes, what it tells, and what it refuses without touching anything."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest

from steps.entry_point import ParameterError, open_step
from steps.featurize import FeaturizeParams, featurize
from steps.market.price_report import PriceError
from steps.market.prices import load_prices
from steps.predict import PredictParams, StaleError, predict
from steps.serving.forecast_file import ForecastFileError
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.price_model_store import load_price_model
from steps.tracking.project import StepRun, read_run
from steps.tracking.registry import CHAMPION
from steps.tracking.snapshot_store import (
    StoredSnapshot,
    load_code,
    load_provenance,
    resolve_snapshot,
)
from steps.tracking.stores import TrackingError
from steps.train import TrainParams, train

pytestmark = pytest.mark.slow

SYMBOLS = ["GOOG", "IBM", "MSFT"]
CHAMPION_URI = "models:/stock_direction@champion"


@pytest.fixture(scope="module")
def store(
    migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, StepRun]]:
    """A store with a model that takes prices, which is champion, and one that does not."""
    home = tmp_path_factory.mktemp("store")
    shutil.copy(migrated_database, home / "mlflow.db")
    table = load_prices("sample").table
    some = table[table["symbol"].isin(SYMBOLS)].groupby("symbol").tail(800)
    some.to_parquet(home / "prices.parquet", index=False)
    uri = f"sqlite:///{home}/mlflow.db"
    mlflow.MlflowClient(uri).create_experiment("stock_prediction", str(home / "artifacts"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(home)
        params = FeaturizeParams(prices="prices.parquet")
        with open_step("featurize", params) as logger:
            featurize(params, logger)
        quick = TrainParams(n_estimators=8, early_stopping_rounds=3)
        with open_step("train", quick) as logger:
            train(quick, logger)
        trained = read_run(logger.client, logger.run_id)
        mlflow.set_tracking_uri(uri)
        mlflow.register_model(trained.tags["model_uri"], "stock_direction")
        logger.client.set_registered_model_alias("stock_direction", CHAMPION, "1")
        yield {"trained": trained}
        mlflow.set_tracking_uri(None)


@pytest.fixture(autouse=True)
def home(store: dict[str, StepRun], in_empty_folder: Path) -> Path:
    """The folder to predict in, with prices, recorded in the store."""
    made = Path(store["trained"].artifact_uri.removeprefix("file://")).parents[1]
    home = made if (made / "mlflow.db").exists() else made.parent
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{home}/mlflow.db"
    shutil.copy(home / "prices.parquet", in_empty_folder)
    return in_empty_folder


def run(**params: Any) -> StepRun:
    given = PredictParams(**{"prices": "prices.parquet", "as_of": "newest", **params})
    with open_step("predict", given) as logger:
        predict(given, logger)
    return read_run(logger.client, logger.run_id)


def test_the_newest_forecasts_of_the_champion(
    store: dict[str, StepRun], capsys: pytest.CaptureFixture[str]
) -> None:
    done = run()
    told = pd.read_csv("predictions.csv", keep_default_na=False)
    assert told["symbol"].tolist() == SYMBOLS
    assert set(told["date"]) == {"2013-03-01"}
    assert told["probability"].between(0, 1).all()
    assert set(told["model_version"]) == {"stock_direction version 1"}
    snapshot_id = store["trained"].tags["feature_snapshot_id"]
    assert set(told["feature_snapshot_id"]) == {snapshot_id} == {done.tags["feature_snapshot_id"]}
    threshold = store["trained"].metrics["best_threshold"]
    assert told["direction"].tolist() == (told["probability"] > threshold).astype(int).tolist()
    assert set(told["note"]) == {""}
    assert done.metrics["rows"] == done.metrics["symbols"] == 3
    assert done.tags["model_uri"] == "models:/stock_direction/1"
    content = Path("predictions.csv").read_bytes()
    assert done.tags["output_sha256"] == hashlib.sha256(content).hexdigest()
    assert "3 forecasts of 3 symbols by stock_direction version 1" in capsys.readouterr().out


def test_every_date_to_parquet_is_what_the_loaded_model_says(store: dict[str, StepRun]) -> None:
    run(dates="all", output="out/all.parquet", model_uri=store["trained"].tags["model_uri"])
    told = pd.read_parquet("out/all.parquet")
    model = mlflow.pyfunc.load_model(CHAMPION_URI)
    served = model.predict(pd.read_parquet("prices.parquet"), params={"every_date": True})
    assert told["probability"].tolist() == served["probability"].tolist()
    assert told["symbol"].tolist() == served["symbol"].tolist()
    assert told["note"].tolist() == served["note"].tolist()
    assert told["model_version"].str.startswith("m-").all()
    assert len(told) == 3 * (800 - 33)


def test_the_feature_model_stays_at_hand(store: dict[str, StepRun]) -> None:
    uri = store["trained"].tags["feature_model_uri"]
    assert mlflow.xgboost.load_model(uri).num_boosted_rounds() >= 1
    with pytest.raises(TrackingError, match="takes features, not prices: train again"):
        run(model_uri=uri)


def test_the_latest_version_can_be_asked_for() -> None:
    done = run(model_uri="models:/stock_direction/latest")
    assert done.tags["model_uri"] == "models:/stock_direction/1"
    with pytest.raises(TrackingError, match="there is no model models:/nobody/latest"):
        run(model_uri="models:/nobody/latest")


@pytest.mark.parametrize("of", ["model_uri", "run"])
def test_a_model_may_be_named_in_every_way(store: dict[str, StepRun], of: str) -> None:
    trained = store["trained"]
    uri = trained.tags["model_uri"] if of == "model_uri" else f"runs:/{trained.run_id}/model"
    run(model_uri=uri, output=f"{of}.csv")
    told = pd.read_csv(f"{of}.csv")
    assert set(told["model_version"]) == {trained.tags["model_uri"].removeprefix("models:/")}


def test_symbols_can_be_chosen_and_must_be_there() -> None:
    run(symbols="MSFT, IBM")
    assert pd.read_csv("predictions.csv")["symbol"].tolist() == ["IBM", "MSFT"]
    before = Path("predictions.csv").read_bytes()
    with pytest.raises(PriceError, match=r"prices\.parquet has no prices of AAPL, XYZ"):
        run(symbols="XYZ,MSFT,AAPL")
    assert Path("predictions.csv").read_bytes() == before


def test_few_rows_strangers_and_stale_symbols_are_noted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = pd.read_parquet("prices.parquet")
    stranger = table[table["symbol"] == "IBM"].assign(symbol="NEW")
    short = table[table["symbol"] == "IBM"].tail(20).assign(symbol="FEW")
    ended = (table["symbol"] == "MSFT") & (table["date"] > "2013-02-01")
    pd.concat([table[~ended], stranger, short]).to_parquet("odd.parquet")
    done = run(prices="odd.parquet")
    told = pd.read_csv("predictions.csv").set_index("symbol")
    assert told["note"].dropna().to_dict() == {
        "FEW": "20 rows of the 34 needed; not seen in training",
        "MSFT": "stale: 20 weekdays old",
        "NEW": "not seen in training",
    }
    assert told["probability"].isna().to_dict()["FEW"]
    assert told.loc["NEW", "probability"] == told.loc["IBM", "probability"]
    assert done.metrics["rows_without_forecast"] == 1
    assert done.metrics["symbols_with_note"] == 3
    assert "with a note: FEW (20 rows of the 34 needed; not seen in" in capsys.readouterr().out
    assert done.read_json("notes.json")["NEW"] == "not seen in training"


def test_old_prices_are_refused_unless_that_is_meant() -> None:
    today = datetime.now(UTC).date()
    with pytest.raises(StaleError, match=rf"end on 2013-03-01, [\d,]+ weekdays before {today}"):
        run(as_of="today")
    with pytest.raises(StaleError, match="max_age=5"):
        run(as_of="2013-03-11")
    assert not Path("predictions.csv").exists()
    run(as_of="2013-03-08")
    run(as_of="2013-03-11", max_age=6)
    run(as_of="today", max_age="none")
    run(as_of="today", dates="all")


def test_prices_that_go_on_after_the_day_in_question_are_refused() -> None:
    with pytest.raises(ValueError, match="the prices go on to 2013-03-01: cut them off there"):
        run(as_of="2013-02-28")


def test_a_horizon_that_is_not_the_models_is_refused() -> None:
    with pytest.raises(
        ParameterError, match="horizon=5, but stock_direction version 1 forecasts 1"
    ):
        run(horizon=5)
    run(horizon=1)


def test_a_file_in_the_clone_of_a_git_url_is_refused() -> None:
    params = PredictParams(prices="prices.parquet", as_of="newest")
    with open_step("predict", params) as logger:
        logger.set_tags(**{"mlflow.source.git.repoURL": "https://git.example.org/c.git"})
        with pytest.raises(ParameterError, match=r"output=predictions\.csv would lie in MLflow's"):
            predict(params, logger)
        path = Path("predictions.csv").absolute()
        assert predict(params.model_copy(update={"output": str(path)}), logger) == path


@pytest.mark.parametrize(
    ("prices", "output"),
    [
        ("self.csv", "self.csv"),
        ("self.csv", "./folder/../self.csv"),
        ("folder", "folder/out.parquet"),
        ("*.csv", "out.csv"),
    ],
)
def test_prices_are_not_written_over_nor_forecasts_taken_for_prices(
    prices: str, output: str
) -> None:
    Path("folder").mkdir()
    for path in ("self.csv", "folder/prices.csv"):
        pd.read_parquet("prices.parquet").to_csv(path, index=False)
    before = Path("self.csv").read_bytes()
    with pytest.raises(ParameterError, match="write it elsewhere"):
        run(prices=prices, output=output)
    assert Path("self.csv").read_bytes() == before


def test_an_output_that_is_a_folder_is_refused() -> None:
    Path("there.csv").mkdir()
    with pytest.raises(ForecastFileError, match=r"there\.csv cannot be written \(it is a folder\)"):
        run(output="there.csv")


def test_code_that_does_not_fit_any_more_makes_no_model_of_prices(
    store: dict[str, StepRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def of_old(stored: StoredSnapshot) -> dict[str, str]:
        code = load_code(stored)
        return {name: text.replace("weekdays_old", "days_old") for name, text in code.items()}

    monkeypatch.setattr("steps.serving.pack.load_code", of_old)
    monkeypatch.setattr("steps.serving.pack.hash_code", lambda code: made_with)
    quick = TrainParams(n_estimators=2, early_stopping_rounds=0)
    with MLflowLogger("stock_prediction") as logger:
        stored = resolve_snapshot(logger.client, logger.experiment_id)
        made_with = load_provenance(stored)["code_sha256"]
        uri = train(quick, logger)
    assert mlflow.xgboost.load_model(uri).num_boosted_rounds() == 2
    said = capsys.readouterr().out
    assert "the model takes features only, not prices, for the code stored with its" in said
    assert "(ImportError: cannot import name 'weekdays_old'" in said


def test_nobody_gets_a_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    pd.read_parquet("prices.parquet").groupby("symbol").tail(3).to_parquet("few.parquet")
    done = run(prices="few.parquet")
    assert "0 forecasts of 3 symbols by stock_direction version 1: " in capsys.readouterr().out
    assert "share_up" not in done.metrics


def test_bad_prices_leave_what_was_there(capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_parquet("prices.parquet")
    table.loc[5, "close"] = -1.0
    table.to_parquet("bad.parquet")
    Path("predictions.csv").write_text("yesterday's\n")
    with pytest.raises(PriceError, match=r"row 6, column close: -1\.0 is not above zero"):
        run(prices="bad.parquet")
    assert Path("predictions.csv").read_text() == "yesterday's\n"
    assert sorted(path.suffix for path in Path().iterdir()) == [".csv", ".parquet", ".parquet"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("models:/nobody@champion", "there is no model models:/nobody@champion"),
        ("models:/stock_direction@challenger", "`mlflow run . -e promote` makes a champion"),
        ("models:/stock_direction/7", "there is no model models:/stock_direction/7"),
        ("runs:/" + "0" * 32 + "/model", "cannot be loaded"),
        ("nowhere", "cannot be loaded"),
    ],
)
def test_a_model_that_is_not_there_is_refused_in_a_line(uri: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        run(model_uri=uri)


def test_an_output_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ends in \.csv or \.parquet"):
        PredictParams(output="forecasts.xlsx")


def test_a_model_computes_with_the_code_of_its_snapshot_whatever_this_checkout_has(
    store: dict[str, StepRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = load_prices("prices.parquet").table
    with MLflowLogger("stock_prediction") as logger:
        loaded = load_price_model(logger.client, CHAMPION_URI)
        before = loaded.model.forecast(prices)
        monkeypatch.setattr("steps.market.indicators.relative_strength", None)
        monkeypatch.setattr("steps.market.features.FEATURE_SETS", {})
        again = load_price_model(logger.client, CHAMPION_URI)
    pd.testing.assert_frame_equal(again.model.forecast(prices), before)
    assert type(again.model).__module__.startswith("candlewick_")
    assert loaded.run_id == store["trained"].run_id


def test_the_model_says_what_it_takes_and_gives(store: dict[str, StepRun]) -> None:
    info = mlflow.models.get_model_info(store["trained"].tags["model_uri"])
    assert info.signature.inputs is None  # MLflow would enforce it, and drop columns
    assert info.signature.outputs.input_names() == [
        *("date", "symbol", "probability", "direction", "horizon", "note"),
    ]
    assert [param.name for param in info.signature.params] == [
        *("every_date", "as_of", "max_age", "horizon"),
    ]
    assert info.metadata["feature_snapshot_id"] == store["trained"].tags["feature_snapshot_id"]
    folder = Path(mlflow.artifacts.download_artifacts(store["trained"].tags["model_uri"]))
    example = json.loads((folder / "serving_input_example.json").read_text())
    columns = example["dataframe_split"]["columns"]
    answer = mlflow.pyfunc.load_model(str(folder)).predict(
        pd.DataFrame(example["dataframe_split"]["data"], columns=columns)
    )
    assert answer["symbol"].tolist() == ["AAPL", "MSFT"]
    assert answer["probability"].notna().all()
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert not kinds & {".pkl", ".pickle", ".joblib"}


def test_a_snapshot_without_its_code_gives_a_model_of_features(
    store: dict[str, StepRun], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("steps.serving.pack.load_code", lambda stored: {})
    quick = TrainParams(n_estimators=2, early_stopping_rounds=0)
    with MLflowLogger("stock_prediction") as logger:
        uri = train(quick, logger)
    assert mlflow.xgboost.load_model(uri).num_boosted_rounds() == 2
    assert "the model takes features only" in capsys.readouterr().out
