"""Flip any byte of a stored snapshot or model: it is refused before anything of it is used."""

import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from steps.learning.proba import predict_proba_up
from steps.market.build import build_snapshot, ingredients, own_code
from steps.market.features import get_feature_set
from steps.market.prices import load_prices
from steps.market.snapshot import SnapshotError
from steps.serving.pack import log_price_model
from steps.tracking.checksums import SUMS
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.price_model_store import load_price_model
from steps.tracking.snapshot_store import (
    StoredSnapshot,
    find_by_key,
    load_code,
    load_provenance,
    load_snapshot,
    save_snapshot,
)
from steps.tracking.stores import TrackingError

pytestmark = pytest.mark.slow

CORE = get_feature_set("core")
ANY_FILE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@dataclass
class Kept:
    """A store with a snapshot and models of all kinds; and where each lies."""

    uri: str
    logger: MLflowLogger
    stored: StoredSnapshot
    models: dict[str, str]
    prices: pd.DataFrame

    def folder(self, kind: str) -> Path:
        if kind == "snapshot":
            return Path(self.stored.artifact_uri.removeprefix("file://"))
        model = self.logger.client.get_logged_model(self.models[kind].removeprefix("models:/"))
        return Path(model.artifact_location.removeprefix("file://"))

    def files(self, kind: str) -> list[Path]:
        return sorted(path for path in self.folder(kind).rglob("*") if path.is_file())

    def loaders(self, kind: str) -> list[Any]:
        """What evaluate, reproduce, promote, rollback, predict and monitor load it with."""
        if kind == "snapshot":
            return [lambda: load_snapshot(self.stored)]
        loaders: list[Any] = [lambda: load_model(self.models[kind])]
        if kind == "price_model":
            loaders.append(lambda: load_price_model(self.logger.client, self.models[kind]))
        return loaders


@pytest.fixture(scope="module")
def kept(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    home = tmp_path_factory.mktemp("store")
    shutil.copy(migrated_database, home / "mlflow.db")
    uri = f"sqlite:///{home}/mlflow.db"
    mlflow.MlflowClient(uri).create_experiment("kept", str(home / "artifacts"))
    table = load_prices("sample").table
    some = table["symbol"].isin(["AAPL", "IBM"])
    prices = table[some].groupby("symbol").tail(80).reset_index(drop=True)
    snapshot = build_snapshot(prices, CORE, 1)
    rows = snapshot.table["direction"].notna()
    X, y = snapshot.features[rows], snapshot.table.loc[rows, "direction"].astype(int)
    booster = xgboost.train(
        {"nthread": 1, "objective": "binary:logistic"}, xgboost.DMatrix(X, y), 4
    )
    with MLflowLogger("kept", tracking_uri=uri) as logger:
        made = ingredients("ab", CORE, 1)
        stored = save_snapshot(logger, snapshot, made, "key", own_code())
        metadata = {"best_threshold": 0.5, "model_type": "xgboost", "horizon": 1}
        models = {
            "price_model": log_price_model(booster, snapshot, stored, metadata, logger),
            "booster": logger.log_model(booster, input_example=X.head()),
            "classifier": logger.log_model(xgboost.XGBClassifier(n_estimators=2).fit(X, y)),
            "sklearn": logger.log_model(LogisticRegression().fit(X * 0, y), input_example=X.head()),
        }
    return Kept(uri, logger, stored, models, prices)


@pytest.fixture(autouse=True)
def in_store(kept: Kept) -> Iterator[None]:
    mlflow.set_tracking_uri(kept.uri)
    forget_carried_code()
    yield
    forget_carried_code()


def forget_carried_code() -> None:
    for name in [name for name in sys.modules if name.startswith("candlewick_")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def assert_refused(kept: Kept, kind: str, name: str) -> None:
    """Every loader says in one line which file it is, and has imported nothing of it."""
    for load in kept.loaders(kind):
        with pytest.raises((SnapshotError, TrackingError)) as caught:
            load()
        message = str(caught.value)
        assert f" is not used: {name} " in message
        assert "\n" not in message
        assert not [module for module in sys.modules if module.startswith("candlewick_")]


@pytest.mark.parametrize("kind", ["snapshot", "price_model", "booster", "classifier", "sklearn"])
def test_one_byte_of_any_file(kept: Kept, kind: str) -> None:
    folder, files = kept.folder(kind), kept.files(kind)
    assert folder / SUMS in files
    for file in files:
        whole = file.read_bytes()
        name = file.relative_to(folder).as_posix()
        # Code comes in dozens of files, all of them read by the same lines.
        positions = (-1,) if name.startswith("code/") else (0, len(whole) // 2, -1)
        for position in positions if whole else ():
            damaged = bytearray(whole)
            damaged[position] ^= 1
            file.write_bytes(damaged)
            if name == SUMS:  # where nothing else knows it, the file it speaks of is named
                with pytest.raises((SnapshotError, TrackingError), match=" is not used: "):
                    kept.loaders(kind)[0]()
            else:
                assert_refused(kept, kind, name)
        file.write_bytes(whole)
    for load in kept.loaders(kind):
        load()


@given(data=st.data())
@ANY_FILE
def test_any_byte_of_any_file(kept: Kept, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["snapshot", "price_model", "booster", "sklearn"]))
    files = [file for file in kept.files(kind) if file.stat().st_size]
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    file.write_bytes(damaged)
    try:
        for load in kept.loaders(kind):
            with pytest.raises((SnapshotError, TrackingError), match=" is not used: "):
                load()
        assert not [module for module in sys.modules if module.startswith("candlewick_")]
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("kind", ["snapshot", "price_model", "booster", "sklearn"])
def test_files_that_are_cut_gone_or_new(kept: Kept, kind: str) -> None:
    folder = kept.folder(kind)
    for file in kept.files(kind):
        whole = file.read_bytes()
        name = file.relative_to(folder).as_posix()
        if name.startswith("code/") and file.name not in ("age.py", "price_model.py"):
            continue
        if whole and name != SUMS:
            file.write_bytes(whole[:-1])
            assert_refused(kept, kind, name)
        file.unlink()
        assert_refused(kept, kind, name)
        file.write_bytes(whole)
    for name in ("sitecustomize.py", "data/more", "more/__init__.py"):
        new = folder / name
        had = new.parent.exists()
        new.parent.mkdir(exist_ok=True)
        new.write_bytes(b"")
        assert_refused(kept, kind, name)
        shutil.rmtree(new.parent) if not had else new.unlink()
    for load in kept.loaders(kind):
        load()


def test_what_mlflow_loads_by_itself(kept: Kept) -> None:
    """`mlflow models serve` and `predict` do not know of us: the model's own code refuses."""
    uri, folder = kept.models["price_model"], kept.folder("price_model")

    def load() -> Any:
        forget_carried_code()
        return mlflow.pyfunc.load_model(uri, suppress_warnings=True)

    def assert_refused(name: str, problem: str) -> None:
        with pytest.raises(Exception) as caught:
            load()
        if not name.startswith("code/") and name not in (SUMS, "MLmodel"):
            assert str(caught.value).startswith(f"{name} {problem}")

    for file in kept.files("price_model"):
        name = file.relative_to(folder).as_posix()
        if name.startswith("code/") and file.parent.name == "market" and file.name != "age.py":
            continue  # as the other code: each load takes its time
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b" ")
        assert_refused(name, "is damaged")
        file.unlink()
        assert_refused(name, "is missing")
        file.write_bytes(whole)
    (folder / "data" / "data" / "more").write_bytes(b"")
    assert_refused("data/data/more", "was added")
    (folder / "data" / "data" / "more").unlink()
    answer = load().predict(kept.prices)
    features = build_snapshot(kept.prices, CORE, 1).features
    expected = predict_proba_up(load_model(uri)[0], features.iloc[[46, -1]])
    assert answer["probability"].tolist() == expected.tolist()


def test_what_python_has_compiled_beside_the_code_is_not_run(kept: Kept) -> None:
    """It would be taken for the source it stands beside, and nothing vouches for it."""
    folder = kept.folder("price_model")
    (source,) = folder.glob("code/*/serving/price_model.py")
    kept.loaders("price_model")[1]()
    forget_carried_code()
    compiled = source.parent / "__pycache__" / f"price_model.{sys.implementation.cache_tag}.pyc"
    compiled.parent.mkdir(exist_ok=True)
    trap = compile("raise SystemExit('run')", str(source), "exec")
    header = importlib.util.MAGIC_NUMBER + (0).to_bytes(4, "little")
    stat = source.stat()
    header += int(stat.st_mtime).to_bytes(4, "little") + stat.st_size.to_bytes(4, "little")
    import marshal

    compiled.write_bytes(header + marshal.dumps(trap))
    kept.loaders("price_model")[1]()
    shutil.rmtree(compiled.parent)


def test_parts_of_a_snapshot_are_checked_by_themselves(kept: Kept) -> None:
    folder, stored = kept.folder("snapshot"), kept.stored
    code, provenance = load_code(stored), load_provenance(stored)
    assert code == own_code()
    for name, load in (("provenance.json", load_provenance), ("code/features.py", load_code)):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + b" ")
        with pytest.raises(SnapshotError, match=f"is not used: {name} is damaged"):
            load(stored)
        (folder / name).unlink()
        with pytest.raises((SnapshotError, TrackingError)):
            load(stored)
        (folder / name).write_bytes(whole)
    # What is lost altogether is not taken for a snapshot of before there was code in it.
    shutil.move(folder / "code", folder.parent / "away")
    with pytest.raises((SnapshotError, TrackingError)):
        load_code(stored)
    shutil.move(folder.parent / "away", folder / "code")
    assert (load_code(stored), load_provenance(stored)) == (code, provenance)


def test_a_damaged_snapshot_is_not_reused(kept: Kept) -> None:
    client, here = kept.logger.client, kept.logger.experiment_id
    assert find_by_key(client, here, "key") == kept.stored
    code = kept.folder("snapshot") / "code" / "features.py"
    whole = code.read_bytes()
    code.write_bytes(whole + b"\n")
    assert find_by_key(client, here, "key") is None
    code.write_bytes(whole)
    assert find_by_key(client, here, "key") == kept.stored


def test_what_cannot_be_sealed_is_not_stored(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = load_snapshot(kept.stored)
    with (
        pytest.raises(OSError, match="No such file"),
        MLflowLogger("unsealed", tracking_uri=kept.uri) as logger,
    ):
        save_snapshot(logger, snapshot, {}, "k", {"away/name.py": ""})
    run = logger.client.get_run(logger.run_id)
    assert run.info.status == "FAILED"
    assert "feature_key" not in run.data.tags


def test_models_know_that_they_were_sealed_and_do_not_tell(kept: Kept) -> None:
    _, metadata = load_model(kept.models["booster"])
    assert metadata == {"model_type": "xgboost"}
    rows = pd.DataFrame(np.zeros((2, 23), np.float32), columns=CORE.names)
    for kind in ("booster", "classifier", "sklearn"):  # and are MLflow's to load, as ever
        assert len(mlflow.pyfunc.load_model(kept.models[kind]).predict(rows)) == 2
