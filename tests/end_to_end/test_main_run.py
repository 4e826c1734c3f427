"""`mlflow run .`: the tree of runs, what is in it, and the same once more in other ways."""

import json
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from mlflow.entities import Run

from end_to_end.conftest import Launched
from end_to_end.recipe import Recorded, git, mlflow_run, tags_of
from steps.pipeline import MainParams
from steps.tracking.snapshot_table import from_arrow

pytestmark = pytest.mark.slow

STEPS = ["featurize", "train", "evaluate"]
PLOTS = ["calibration", "confusion_matrix", "feature_importance", "precision_recall", "roc_curve"]


@dataclass(frozen=True)
class Tree:
    """A finished `mlflow run`, and what it recorded."""

    done: subprocess.CompletedProcess[str]
    recorded: Recorded
    parent: Run
    children: dict[str, Run]

    def artifacts(self, step: str) -> Path:
        return self.recorded.artifacts(self.children[step])

    @property
    def predictions(self) -> bytes:
        return (self.artifacts("evaluate") / "predictions.parquet").read_bytes()

    @property
    def snapshot_id(self) -> str:
        return str(self.parent.data.tags["feature_snapshot_id"])


def run_main(project: Path, folder: Path, *arguments: str) -> Tree:
    done = mlflow_run(str(project), "--env-manager", "local", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    recorded = Recorded(folder)
    parent = recorded.steps("main")[-1]
    return Tree(done, recorded, parent, recorded.children(parent))


# Three runs in one folder, one after the other, shared by all tests below.


@pytest.fixture(scope="module")
def first(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """In an empty folder: MLflow makes the database itself."""
    return run_main(project, tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def second(project: Path, first: Tree) -> Tree:
    return run_main(project, first.recorded.folder)


@pytest.fixture(scope="module")
def apart(project: Path, second: Tree) -> Tree:
    """Every step a process and a project run of its own."""
    arguments = ("-P", "isolation=project", "-P", "reuse=none")
    return run_main(project, second.recorded.folder, *arguments)


@pytest.fixture(params=["first", "apart"])
def tree(request: pytest.FixtureRequest) -> Tree:
    found: Tree = request.getfixturevalue(request.param)
    return found


# -- the tree ------------------------------------------------------------------------------------


def test_one_parent_and_three_children_finish(tree: Tree) -> None:
    assert list(tree.children) == STEPS
    for run in (tree.parent, *tree.children.values()):
        assert run.info.status == "FINISHED"
        assert "failure" not in run.data.tags


def test_children_can_be_found_and_run_again_alone(tree: Tree, project: Path) -> None:
    commit = git("rev-parse", "HEAD", cwd=project)
    assert tags_of(tree.children, "mlflow.project.entryPoint") == {step: step for step in STEPS}
    assert tree.parent.data.tags["mlflow.project.entryPoint"] == "main"
    everyone = {"main": tree.parent, **tree.children}
    assert set(tags_of(everyone, "mlflow.source.git.commit").values()) == {commit}
    assert set(tags_of(everyone, "mlflow.source.type").values()) == {"PROJECT"}
    assert set(tags_of(everyone, "mlflow.source.name").values()) == {project.as_uri()}
    assert tags_of(tree.children, "mlflow.runName") == {step: step for step in STEPS}


def test_parent_names_its_children(tree: Tree) -> None:
    for step, run in tree.children.items():
        assert tree.parent.data.tags[f"{step}_run_id"] == run.info.run_id
        assert run.info.run_id in tree.parent.data.tags["mlflow.note.content"]


def test_the_snapshot_id_is_with_every_step(tree: Tree) -> None:
    assert re.fullmatch("[0-9a-f]{32}", tree.snapshot_id)
    everyone = {"main": tree.parent, **tree.children}
    assert set(tags_of(everyone, "feature_snapshot_id").values()) == {tree.snapshot_id}
    for step in ("train", "evaluate"):
        assert tree.children[step].data.params["feature_snapshot_id"] == tree.snapshot_id
    for run in tree.children.values():
        (used,) = run.inputs.dataset_inputs
        assert used.dataset.digest == tree.snapshot_id
    manifest = json.loads((tree.artifacts("featurize") / "snapshot" / "manifest.json").read_text())
    assert manifest["symbols"] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


def test_headlines_are_on_the_parent(tree: Tree) -> None:
    scores = tree.children["evaluate"].data
    headline = {name: value for name, value in scores.metrics.items() if "/" not in name}
    assert headline.keys() > {"accuracy", "auc_roc", "auc_roc_low", "auc_roc_high", "log_loss"}
    assert tree.parent.data.metrics == headline
    assert tree.parent.data.tags["verdict"] == scores.tags["verdict"]
    for name, value in MainParams().model_dump(exclude={"isolation", "reuse"}).items():
        assert tree.parent.data.params[name] == str(value)


def test_results_hold_together(tree: Tree) -> None:
    folder = tree.artifacts("evaluate")
    results = json.loads((folder / "results.json").read_text())
    recorded = tree.children["evaluate"].data
    assert results["feature_snapshot_id"] == tree.snapshot_id
    assert results["train_run_id"] == tree.children["train"].info.run_id
    for name, value in results["metrics"].items():
        assert recorded.metrics[name] == value
    for baseline, scores in results["baselines"].items():
        for name, value in scores.items():
            assert recorded.metrics[f"{baseline}/{name}"] == value

    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert len(predictions) == results["test_window"]["rows"]
    right = predictions["predicted"] == predictions["direction"]
    assert right.mean() == pytest.approx(results["metrics"]["accuracy"], abs=1e-12)
    window = json.loads((tree.artifacts("train") / "split.json").read_text())["test"]
    assert str(predictions["date"].min().date()) == window["first_date"]
    assert str(predictions["date"].max().date()) == window["last_date"]


def test_an_honest_verdict_on_the_bundled_prices(tree: Tree) -> None:
    metrics = tree.parent.data.metrics
    assert metrics["auc_roc_low"] < 0.5 < metrics["auc_roc_high"]
    assert metrics["auc_roc"] < 0.55
    assert tree.parent.data.tags["verdict"].startswith("No better than the base rate")


def test_five_pictures(tree: Tree) -> None:
    plots = tree.artifacts("evaluate") / "plots"
    assert sorted(path.name for path in plots.iterdir()) == [f"{name}.png" for name in PLOTS]
    for path in plots.iterdir():
        height, width, _ = imread(path).shape  # decodes every pixel, or raises
        assert min(height, width) > 300


def test_training_curves(tree: Tree) -> None:
    train = tree.children["train"]
    rounds = [
        [point.step for point in tree.recorded.client.get_metric_history(train.info.run_id, name)]
        for name in (
            *("train_log_loss", "validation_log_loss"),
            *("train_auc_roc", "validation_auc_roc"),
        )
    ]
    assert rounds[0] == list(range(len(rounds[0])))
    assert all(steps == rounds[0] for steps in rounds)
    best = train.data.metrics["best_iteration"]
    assert len(rounds[0]) == best + 1 + MainParams().early_stopping_rounds


def test_the_model_loads_and_names_its_features(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree.recorded.folder)
    train = tree.children["train"].data.tags
    assert tree.parent.data.tags["model_uri"] == train["model_uri"]
    for uri in (train["model_uri"], train["feature_model_uri"]):
        assert mlflow.models.get_model_info(uri).metadata["feature_snapshot_id"] == tree.snapshot_id
    model = mlflow.pyfunc.load_model(train["feature_model_uri"])
    table = from_arrow(pq.read_table(tree.artifacts("featurize") / "snapshot" / "features.parquet"))
    predictions = pd.read_parquet(tree.artifacts("evaluate") / "predictions.parquet")
    names = model.metadata.get_input_schema().input_names()
    rows = table.merge(predictions[["date", "symbol", "probability"]], on=["date", "symbol"])
    assert len(rows) == len(predictions)
    assert model.predict(rows[names]).tolist() == rows["probability"].tolist()


def test_the_summary_names_every_run(tree: Tree) -> None:
    said = tree.done.stdout.splitlines()
    for step, run in {"main": tree.parent, **tree.children}.items():
        assert f"{step:<9} {run.info.run_id}" in said
    assert f"snapshot  {tree.snapshot_id}" in said
    assert f"model     {tree.parent.data.tags['model_uri']}" in said
    assert tree.parent.data.tags["verdict"] in said
    (look,) = [line for line in said if line.startswith("look at")]
    assert f"sqlite:///{tree.recorded.folder / 'mlflow.db'}" in look
    assert "Traceback" not in tree.done.stderr


# -- the same again ------------------------------------------------------------------------------


def test_second_run_reuses_the_features(first: Tree, second: Tree) -> None:
    assert list(second.children) == ["train", "evaluate"]
    assert second.parent.data.tags["features_reused"] == "True"
    assert first.parent.data.tags["features_reused"] == "False"
    assert second.parent.data.tags["featurize_run_id"] == first.children["featurize"].info.run_id
    assert f"feature snapshot {first.snapshot_id}: reused" in second.done.stdout


def test_same_snapshot_and_predictions_however_the_steps_run(
    first: Tree, second: Tree, apart: Tree
) -> None:
    assert first.snapshot_id == second.snapshot_id == apart.snapshot_id
    assert first.predictions == second.predictions
    assert first.predictions == apart.predictions
    for other in (second, apart):
        for name, value in first.parent.data.metrics.items():
            assert other.parent.data.metrics[name] == value


def test_steps_apart_are_project_runs_under_the_same_manager(apart: Tree) -> None:
    launched = re.findall("=== Running command '(.+?)' in run with ID", apart.done.stderr)
    modules = [re.search(r"python -m (\S+)", command)[1] for command in launched]  # type: ignore[index]
    assert modules == ["steps.pipeline", "steps.featurize", "steps.train", "steps.evaluate"]
    # What `--env-manager local` stands for: no command activates another environment first.
    assert all(command.startswith("python -m ") for command in launched)


# -- one step at a time --------------------------------------------------------------------------


def test_train_alone_makes_its_features_first_then_evaluate_finds_the_model(
    project: Path, new_folder: Callable[[], Path], launch: Callable[..., Launched]
) -> None:
    folder = new_folder()
    typed = ("-e", "train", "-P", "learning_rate=0.1")
    done = mlflow_run(str(project), "--env-manager", "local", *typed, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "no feature snapshot yet: making one from the sample prices first" in done.stdout
    recorded = Recorded(folder)
    (train,) = recorded.steps("train")
    (featurize,) = recorded.steps("featurize")
    assert list(recorded.children(train)) == ["featurize"]
    assert train.data.params["learning_rate"] == "0.1"
    snapshot_id = featurize.data.tags["feature_snapshot_id"]
    assert train.data.tags["feature_snapshot_id"] == snapshot_id

    scored = launch("evaluate", folder)
    assert scored.succeeded, scored.lines
    (evaluate,) = recorded.steps("evaluate")
    assert evaluate.data.tags["train_run_id"] == train.info.run_id
    assert evaluate.data.tags["feature_snapshot_id"] == snapshot_id
    assert evaluate.data.tags["verdict"] in scored.output
    assert recorded.statuses() == {
        step: ["FINISHED"] for step in ("train", "featurize", "evaluate")
    }
