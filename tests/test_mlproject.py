"""MLproject says what the parameter classes say, and its commands survive the shell."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.projects._project_spec import EntryPoint, load_project

from steps.doctor import DoctorParams
from steps.entry_point import ParameterError, StepParams, parse_params
from steps.evaluate import EvaluateParams
from steps.featurize import FeaturizeParams
from steps.learning.models import HYPERPARAMETERS, MODEL_TYPES
from steps.monitor import MonitorParams
from steps.pipeline import MainParams
from steps.predict import PredictParams
from steps.promote import PromoteParams
from steps.reproduce import ReproduceParams
from steps.rollback import RollbackParams
from steps.sync import SyncParams
from steps.train import ModelParams, TrainParams
from steps.walk_forward import WalkForwardParams

ROOT = Path(__file__).resolve().parents[1]
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())
SPECIFICATION = load_project(str(ROOT))
STEPS: dict[str, tuple[str, type[StepParams]]] = {
    "main": ("steps.pipeline", MainParams),
    "featurize": ("steps.featurize", FeaturizeParams),
    "train": ("steps.train", TrainParams),
    "evaluate": ("steps.evaluate", EvaluateParams),
    "walk_forward": ("steps.walk_forward", WalkForwardParams),
    "promote": ("steps.promote", PromoteParams),
    "rollback": ("steps.rollback", RollbackParams),
    "reproduce": ("steps.reproduce", ReproduceParams),
    "predict": ("steps.predict", PredictParams),
    "monitor": ("steps.monitor", MonitorParams),
    "doctor": ("steps.doctor", DoctorParams),
    "sync": ("steps.sync", SyncParams),
}
# What MLproject calls a type that it does not know, such as a Literal, is a string.
TYPE_NAMES = {str: "string", int: "int", float: "float", bool: "bool"}

each_step = pytest.mark.parametrize("step", STEPS)


def command(step: str, **typed: object) -> str:
    """Return the command that `mlflow run` gives to bash, rendered by MLflow itself."""
    entry_point: EntryPoint = SPECIFICATION.get_entry_point(step)
    return str(entry_point.compute_command(typed, storage_dir=None))


def parse(step: str, shell_command: str) -> StepParams:
    """Read a command as the step does; bash would split these words in the same way."""
    python, *option, module = shlex.split(shell_command)[:3]
    assert (python, option, module) == ("python", ["-m"], STEPS[step][0])
    return parse_params(STEPS[step][1], shlex.split(shell_command)[3:])


def test_there_is_an_entry_point_for_every_step_and_nothing_else() -> None:
    assert list(PROJECT["entry_points"]) == list(STEPS)
    assert PROJECT["python_env"] == "python_env.yaml"


@each_step
def test_names_types_and_defaults_are_those_of_the_parameter_class(step: str) -> None:
    declared = PROJECT["entry_points"][step]["parameters"]
    fields = STEPS[step][1].model_fields
    assert sorted(declared) == sorted(fields)
    for name, parameter in declared.items():
        field = fields[name]
        assert parameter.keys() == {"type", "default"}, name
        assert parameter["type"] == TYPE_NAMES.get(field.annotation, "string"), name
        assert parameter["default"] == field.default, name
        assert type(parameter["default"]) is type(field.default), name


@each_step
def test_no_default_is_empty(step: str) -> None:
    # mlflow run logs '' for an empty default, and takes null for "required".
    defaults = [p["default"] for p in PROJECT["entry_points"][step]["parameters"].values()]
    assert None not in defaults
    assert "" not in defaults


@each_step
def test_the_command_hands_over_every_parameter_once(step: str) -> None:
    entry_point = PROJECT["entry_points"][step]
    assert shlex.split(entry_point["command"]) == [
        *("python", "-m", STEPS[step][0]),
        *(f"--{name}={{{name}}}" for name in entry_point["parameters"]),
    ]


@each_step
def test_the_command_with_its_defaults_is_the_class_with_its_defaults(step: str) -> None:
    assert parse(step, command(step)) == STEPS[step][1]()


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """Return what `python -m steps.<name> --help` prints; one interpreter runs them all."""
    script = """if True:
        import runpy, sys
        for module in sys.argv[1:]:
            sys.argv[1:] = ["--help"]
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                print(f"left with {end.code}", end="\\0")
    """
    modules = [module for module, _ in STEPS.values()]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(STEPS, done.stdout.split("\0"), strict=False))


@pytest.mark.slow
@each_step
def test_help_lists_every_parameter_with_its_default(step: str, help_texts: dict[str, str]) -> None:
    module, params = STEPS[step]
    told = " ".join(help_texts[step].split())
    assert told.startswith(f"usage: python -m {module} ")
    assert told.endswith("left with 0")
    for name, field in params.model_fields.items():
        _, _, rest = told.partition(f"--{name} {name.upper()} {field.description} ")
        assert rest.startswith(f"(default: {field.default})"), name


def test_model_types_are_those_that_can_be_built() -> None:
    assert get_args(ModelParams.model_fields["model_type"].annotation) == MODEL_TYPES


def test_every_hyperparameter_is_a_parameter() -> None:
    assert set(HYPERPARAMETERS) < set(ModelParams.model_fields)
    assert list(ModelParams().hyperparameters) == list(HYPERPARAMETERS)


def test_main_takes_everything_that_its_steps_take_but_their_ids() -> None:
    ids = {"feature_snapshot_id", "train_run_id", "allow_other_snapshot"}
    children = (FeaturizeParams, TrainParams, EvaluateParams, WalkForwardParams)
    steps = {name: field for child in children for name, field in child.model_fields.items()}
    own = {"walk_forward", "isolation", "reuse"}
    assert set(MainParams.model_fields) - own == set(steps) - ids
    for name in set(steps) - ids:
        assert repr(MainParams.model_fields[name]) == repr(steps[name])


def test_main_hands_its_children_what_it_was_given() -> None:
    given = MainParams(max_depth=2, test_dates=60, gate_auc_low=0.52, horizon=5, test_size=0.1)
    walking = given.of(WalkForwardParams, feature_snapshot_id="abc")
    assert walking == WalkForwardParams(
        max_depth=2, test_dates=60, gate_auc_low=0.52, feature_snapshot_id="abc"
    )
    assert given.of(FeaturizeParams) == FeaturizeParams(horizon=5)


@pytest.mark.parametrize(("typed", "meant"), [("none", "none"), ("0.5", 0.5), ("-1", -1.0)])
def test_a_condition_of_the_gate_can_be_left_out(typed: str, meant: object) -> None:
    read = parse("evaluate", command("evaluate", gate_sharpe_low=typed))
    assert read == EvaluateParams(gate_sharpe_low=meant)  # type: ignore[arg-type]


SHOW = 'sys.stdout.write("\\0".join(sys.argv[1:]))'
AWKWARD = [
    "my prices/daily bars.csv",
    'it\'s "quoted"',
    "$(touch pwned) `touch pwned` $HOME",
    "a;b && c | d > e",
    "*.parquet",
    "s3://bucket/prices/{2020..2024}/*.parquet",
    "back\\slash\\",
    "--horizon=7",
    "-P",
    "= a=b",
    "größe-価格.csv",
    "two\nlines",
    "~/prices",
    "!history #comment",
]


@pytest.mark.parametrize("value", AWKWARD)
def test_awkward_values_survive_a_real_shell(value: str, tmp_path: Path) -> None:
    shown = command("featurize", prices=value).replace(
        "python -m steps.featurize", f"{shlex.quote(sys.executable)} -c 'import sys; {SHOW}'", 1
    )
    done = subprocess.run(
        ["bash", "-c", shown], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    arguments = done.stdout.split("\0")
    assert arguments[:3] == [f"--prices={value}", "--feature_set=core", "--horizon=1"]
    assert parse_params(FeaturizeParams, arguments) == FeaturizeParams(prices=value)
    assert not any(tmp_path.iterdir())


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_survives_the_quoting(value: str) -> None:
    assert parse("featurize", command("featurize", prices=value)) == FeaturizeParams(prices=value)


@settings(deadline=None)
@given(
    learning_rate=st.floats(0, 1, exclude_min=True),
    gamma=st.floats(0, 1e300),
    max_depth=st.integers(1, 64),
)
def test_numbers_survive_to_the_last_bit(
    learning_rate: float, gamma: float, max_depth: int
) -> None:
    given_values = {"learning_rate": learning_rate, "gamma": gamma, "max_depth": max_depth}
    assert parse("train", command("train", **given_values)) == TrainParams(**given_values)


@pytest.mark.parametrize(
    ("typed", "meant"), [("true", True), ("True", True), ("false", False), ("0", False)]
)
def test_a_flag_reads_as_people_type_it(typed: str, meant: bool) -> None:
    read = parse("evaluate", command("evaluate", allow_other_snapshot=typed))
    assert read == EvaluateParams(allow_other_snapshot=meant)


@pytest.mark.parametrize(
    ("step", "typed", "told"),
    [
        ("train", {"max_depth": "0"}, "max_depth='0': input should be greater than or equal to 1"),
        ("train", {"max_depth": "2.5"}, "max_depth='2.5': input should be a valid integer"),
        ("train", {"learning_rate": "abc"}, "learning_rate='abc': input should be a valid number"),
        ("train", {"learning_rate": "nan"}, "learning_rate='nan': input should be"),
        ("train", {"model_type": "xgbost"}, "model_type='xgbost': input should be 'xgboost', "),
        ("train", {"device": "gpu"}, "device='gpu': string should match pattern"),
        ("train", {"max_dept": "3"}, "unknown parameter max_dept: did you mean max_depth?"),
        ("evaluate", {"bogus": "1"}, "unknown parameter bogus: there are confidence, "),
        ("evaluate", {"allow_other_snapshot": "perhaps"}, "allow_other_snapshot='perhaps': "),
        ("main", {"isolation": "docker"}, "isolation='docker': input should be 'inline' or 'proj"),
        ("main", {"max_depth": "0", "subsample": "2"}, "max_depth='0': "),
        ("main", {"max_depth": "0", "subsample": "2"}, "; subsample='2': "),
    ],
)
def test_a_value_that_is_not_allowed_is_named_in_one_line(
    step: str, typed: dict[str, str], told: str
) -> None:
    with pytest.raises(ParameterError) as raised:
        parse(step, command(step, **typed))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
