"""Models: stored in their libraries' own formats, and back without a bit changed."""

import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
import yaml
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from steps.tracking.checksums import seal
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.stores import TrackingError

RANDOM = np.random.default_rng(0)
X = pd.DataFrame(RANDOM.normal(size=(300, 3)).astype(np.float32), columns=["rsi", "macd", "atr"])
Y = (X["rsi"] + RANDOM.normal(size=300) > 0).astype(int)
NEW = pd.DataFrame(RANDOM.normal(size=(100, 3)).astype(np.float32), columns=X.columns)


def fit_booster() -> xgboost.Booster:
    settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 3}
    return xgboost.train(settings, xgboost.DMatrix(X, Y), num_boost_round=8)


MODELS: dict[str, tuple[str, Callable[[], Any]]] = {
    "booster": ("xgboost", fit_booster),
    "classifier": ("xgboost", lambda: xgboost.XGBClassifier(n_estimators=8, n_jobs=1).fit(X, Y)),
    "logistic_regression": (
        "sklearn",
        lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    ),
    "random_forest": (
        "sklearn",
        lambda: RandomForestClassifier(n_estimators=8, n_jobs=1, random_state=0).fit(X, Y),
    ),
    "hist_gradient_boosting": (
        "sklearn",
        lambda: HistGradientBoostingClassifier(max_iter=8, random_state=0).fit(X, Y),
    ),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


def ask(model: Any) -> Any:
    if isinstance(model, xgboost.Booster):
        return model.predict(xgboost.DMatrix(NEW))
    return model.predict_proba(NEW)


def folder_of(logger: MLflowLogger, uri: str) -> Path:
    model = logger.client.get_logged_model(uri.removeprefix("models:/"))
    return Path(model.artifact_location.removeprefix("file://"))


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and every member of every archive."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        yield path.name, path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield name, archive.read(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_there_and_back(kind: str, shared_database: str) -> None:
    flavor, fit = MODELS[kind]
    model = fit()
    model_type = "xgboost" if flavor == "xgboost" else kind
    with MLflowLogger("models", tracking_uri=shared_database) as logger:
        uri = logger.log_model(
            model,
            model_path=f"models/{kind}.pkl",
            model_type=model_type,
            input_example=X.head(),
            metadata={"feature_snapshot_id": "abc", "best_threshold": 0.5},
        )
    run = logger.client.get_run(logger.run_id)
    assert run.data.tags["model_uri"] == uri
    assert [f"models:/{output.model_id}" for output in run.outputs.model_outputs] == [uri]
    mlflow.set_tracking_uri(shared_database)
    assert logger.client.get_logged_model(uri.removeprefix("models:/")).name == kind

    # What came back is what went in, to the last bit.
    loaded, metadata = load_model(uri)
    assert type(loaded) is type(model)
    assert ask(loaded).tobytes() == ask(model).tobytes()
    expected = {"feature_snapshot_id": "abc", "best_threshold": 0.5, "model_type": model_type}
    assert metadata == expected

    # No pickle, by no name and in no archive.
    for name, content in contents(folder_of(logger, uri)):
        assert not name.endswith((".pkl", ".pickle", ".joblib"))
        with pytest.raises(Exception):  # noqa: B017 - whatever says that it is no pickle
            pickle.loads(content)
        if name.endswith(".npy"):
            np.load(io.BytesIO(content), allow_pickle=False)

    # Others can use it: they know what goes in, what comes out and what to install.
    info = mlflow.models.get_model_info(uri)
    assert info.signature.inputs.input_names() == list(X.columns)
    assert info.signature.outputs is not None
    assert info.saved_input_example_info is not None
    requirements = (folder_of(logger, uri) / "requirements.txt").read_text().split()
    pinned = dict(requirement.split("==") for requirement in requirements)
    assert {"mlflow", "xgboost" if flavor == "xgboost" else "skops"} <= pinned.keys()
    assert pinned == {name: version(name) for name in pinned}
    served = np.asarray(mlflow.pyfunc.load_model(uri).predict(NEW))
    if kind == "classifier":  # MLflow asks an XGBClassifier for classes
        assert served.tobytes() == model.predict(NEW).tobytes()
    else:
        assert served.tobytes() == ask(model).tobytes()


@pytest.mark.slow
def test_a_model_goes_through_a_server(server: str, in_empty_folder: Path) -> None:
    model = fit_booster()
    with MLflowLogger("models", tracking_uri=server) as logger:
        uri = logger.log_model(model, input_example=X.head())
    mlflow.set_tracking_uri(server)
    loaded, metadata = load_model(uri)
    assert ask(loaded).tobytes() == ask(model).tobytes()
    assert metadata == {"model_type": "xgboost"}


@pytest.fixture
def logger(shared_database: str, request: pytest.FixtureRequest) -> Iterator[MLflowLogger]:
    with MLflowLogger(request.node.name, tracking_uri=shared_database) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("model", "model"),
        ("models/xgboost.pkl", "xgboost"),
        ("models/best.v1.json", "best-v1"),
        ("models/", "models"),
        ("", "model"),
    ],
)
def test_a_models_name_is_its_paths_last_part(path: str, name: str, logger: MLflowLogger) -> None:
    uri = logger.log_model(fit_booster(), path, metadata=None)
    assert logger.client.get_logged_model(uri.removeprefix("models:/")).name == name


def test_what_is_no_model_or_another_one_is_refused(logger: MLflowLogger) -> None:
    for thing in ({"weights": [1]}, lambda x: x, "models/xgboost.pkl", None):
        with pytest.raises(TypeError, match=r"stores xgboost and scikit-learn models, found a "):
            logger.log_model(thing)
    regression = LogisticRegression().fit(X, Y)
    with pytest.raises(TypeError, match=r"model_type is 'xgboost', but .*LogisticRegression"):
        logger.log_model(regression, model_type="xgboost")
    with pytest.raises(TypeError, match=r"model_type is 'random_forest', but .*Booster"):
        logger.log_model(fit_booster(), model_type="random_forest")
    assert logger.client.search_logged_models([logger.experiment_id]) == []


def test_a_model_with_parts_that_could_not_be_loaded_is_not_stored(logger: MLflowLogger) -> None:
    model = make_pipeline(FunctionTransformer(print), LogisticRegression())
    with pytest.raises(TypeError, match=r"the model holds \['builtins.print'\]: log_model stores"):
        logger.log_model(model)
    assert "model_uri" not in logger.client.get_run(logger.run_id).data.tags


def test_the_callers_requirements_and_signature_are_kept(logger: MLflowLogger) -> None:
    signature = mlflow.models.infer_signature(X.head(), np.array([0.5]))
    wanted = ["xgboost>=3", "numpy"]
    uri = logger.log_model(fit_booster(), pip_requirements=wanted, signature=signature)
    assert mlflow.models.get_model_info(uri).signature == signature
    folder = folder_of(logger, uri)
    requirements = (folder / "requirements.txt").read_text().split()
    assert set(wanted) <= set(requirements)


def describe_anew(folder: Path, flavor: str, **changes: Any) -> None:
    """Change what a stored model says of itself, and seal it anew, as its thief would."""
    description = yaml.safe_load((folder / "MLmodel").read_text())
    description["flavors"][flavor] |= changes
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    seal(folder)


def test_a_stored_model_cannot_widen_the_list_of_trusted_types(logger: MLflowLogger) -> None:
    uri = logger.log_model(make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y))
    folder = folder_of(logger, uri)
    (file,) = folder.glob("*.skops")
    skops.io.dump(make_pipeline(FunctionTransformer(print), LogisticRegression()), file)
    asked = skops.io.get_untrusted_types(file=file)
    assert asked
    describe_anew(folder, "sklearn", skops_trusted_types=asked)
    with pytest.raises(TrackingError, match=rf"{re.escape(uri)} cannot be loaded .*{asked[0]}"):
        load_model(uri)


def test_a_stored_model_cannot_have_other_code_imported(
    logger: MLflowLogger, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (in_empty_folder / "trap.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(in_empty_folder)
    uri = logger.log_model(fit_booster())
    folder = folder_of(logger, uri)
    describe_anew(folder, "xgboost", model_class="trap.Booster")
    with pytest.raises(TrackingError, match=r"asks for trap\.Booster"):
        load_model(uri)
    (folder / "code").mkdir()
    (folder / "code" / "trap.py").write_text("raise SystemExit('imported')\n")
    describe_anew(folder, "xgboost", model_class="xgboost.core.Booster", code="code")
    with pytest.raises(TrackingError, match="code 'code'"):
        load_model(uri)


@pytest.mark.slow
def test_models_that_are_gone_or_damaged(logger: MLflowLogger) -> None:
    for uri in (f"models:/m-{'0' * 32}", "models:/unknown/1", f"runs:/{'0' * 32}/model", "nowhere"):
        with pytest.raises(TrackingError, match=rf"model {uri} cannot be loaded .*train again"):
            load_model(uri)
    for make in (fit_booster, lambda: LogisticRegression().fit(X, Y)):
        uri = logger.log_model(make())
        folder = folder_of(logger, uri)
        (file,) = (*folder.glob("*.ubj"), *folder.glob("*.skops"))
        whole = file.read_bytes()
        for damaged in (b"", whole[: len(whole) // 2], b"\x00" * len(whole)):
            file.write_bytes(damaged)
            seal(folder)
            with pytest.raises(TrackingError, match="cannot be loaded"):
                load_model(uri)
        file.write_bytes(whole)
        seal(folder)
        load_model(uri)
        for text in ("flavors: [", "", "[]", "flavors: {}", "\x00"):
            (folder / "MLmodel").write_text(text)
            seal(folder)
            with pytest.raises(TrackingError, match="cannot be loaded"):
                load_model(uri)
        (folder / "MLmodel").unlink()
        seal(folder)
        with pytest.raises(TrackingError, match="cannot be loaded"):
            load_model(uri)
