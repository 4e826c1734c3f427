"""Input made to do harm: nothing is run, overwritten or given away; one line says what is wrong."""

import gzip
import http.server
import json
import pickle
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
import xgboost
import yaml
from conftest import ROOT
from end_to_end.recipe import environment
from mlflow.exceptions import ExecutionException
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from steps.command import leave_with, say
from steps.entry_point import open_step
from steps.market.prices import PriceError, load_prices
from steps.market.snapshot import SnapshotError, make_snapshot, manifest_id
from steps.pipeline import MainParams, main
from steps.tracking.checksums import seal
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.price_model_store import load_price_model
from steps.tracking.project import find_evaluation, find_step_run
from steps.tracking.snapshot_store import (
    StoredSnapshot,
    load_provenance,
    load_snapshot,
    resolve_snapshot,
    save_snapshot,
)
from steps.tracking.snapshot_table import to_arrow
from steps.tracking.stores import TrackingError

pytestmark = pytest.mark.slow

UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
ESCAPES = "\x1b[31mred\x1b[0m\x1b]0;title\x07\u202egpj.exe"


# -- what reaches the terminal -------------------------------------------------------------------


def test_a_terminal_is_shown_what_it_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"warning: left out {ESCAPES}\n\tand more")
    with pytest.raises(SystemExit):
        leave_with(f"failed: {ESCAPES}", status=1)
    told = capsys.readouterr()
    assert not UNSEEN.search(told.out + told.err)
    assert told.out.startswith(r"warning: left out \x1b[31mred\x1b[0m\x1b]0;title\x07\u202egpj.exe")
    assert told.out.endswith("\n\tand more\n")


def price_rows(symbol: str = "AAA", rows: int = 3, **others: Any) -> pd.DataFrame:
    days = pd.bdate_range("2020-01-01", periods=rows)
    one = {"open": 1.0, "high": 2.0, "low": 1.0, "close": 1.5, "volume": 10.0}
    return pd.DataFrame({"date": days.strftime("%Y-%m-%d"), "symbol": symbol, **one, **others})


@pytest.mark.parametrize(
    "symbol",
    [ESCAPES, "A\nB", "A\rB", "\x9b31mA", "A\u202eB", "A\u2066B", "A" * 201],
    ids=["ansi", "newline", "return", "c1", "override", "isolate", "long"],
)
def test_symbols_that_are_none(symbol: str, tmp_path: Path) -> None:
    table = pd.concat([price_rows(), price_rows(symbol)])
    table.to_parquet(tmp_path / "a.parquet", index=False)
    with pytest.raises(PriceError) as caught:
        load_prices(tmp_path / "a.parquet")
    message = str(caught.value)
    assert "row 4, column symbol: " in message
    assert "write text such as AAPL" in message
    assert not UNSEEN.search(message)
    assert len(message) < 1500


def test_symbols_that_are_odd_but_harmless(tmp_path: Path) -> None:
    odd = ["BRK.B ü", "^GSPC", "<b>", "$x^{", "'; rm -rf /", "../../x", "🕯", "=1+1"]
    pd.concat(map(price_rows, odd)).to_parquet(tmp_path / "a.parquet", index=False)
    assert sorted(load_prices(tmp_path / "a.parquet").table["symbol"].unique()) == sorted(odd)


# -- prices --------------------------------------------------------------------------------------

HEADER = "date,symbol,open,high,low,close,volume\n"
ROW = "2020-01-01,AAA,1,2,1,1.5,10\n"


def bombs(folder: Path) -> dict[str, str]:
    """Write small files of much; return what is to be said of each."""
    block = gzip.compress((ROW * 400_000).encode())  # 11 MB
    (folder / "rows.csv.gz").write_bytes(gzip.compress(HEADER.encode()) + block * 40)
    nothing = gzip.compress(bytes(10 * 2**20))
    (folder / "zeros.csv.gz").write_bytes(nothing * 300)
    spaces = gzip.compress(b" " * (10 * 2**20))
    (folder / "one_line.csv.gz").write_bytes(spaces * 300)
    with (folder / "long.csv").open("w") as file:
        file.write(HEADER + '2020-01-01,"')
        file.write("x" * 8 * 2**20)
        file.write('",1,2,1,1.5,10\n')
    with (folder / "deep.csv").open("w") as file:
        file.write("[" * 8 * 2**20)
    with (folder / "returns.csv").open("w") as file:
        file.write(HEADER.replace("\n", "\r") + "9" * 3 * 2**20 + "\r")
    (folder / "packed.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    table = pa.Table.from_pandas(price_rows(rows=1), preserve_index=False)
    with pq.ParquetWriter(folder / "billions.parquet", table.schema) as writer:
        many = table.take(pa.array(np.zeros(2_000_000, np.int64)))
        for _ in range(8):
            writer.write_table(many)
    long = table.set_column(1, "symbol", pa.array(["x" * 2**20]))
    repeated = long["symbol"].dictionary_encode().combine_chunks()
    taken = table.take(pa.array(np.zeros(50_000, np.int64)))
    indices = pa.DictionaryArray.from_arrays(np.zeros(50_000, np.int32), repeated.dictionary)
    pq.write_table(taken.set_column(1, "symbol", indices), folder / "repeated.parquet")
    nested = table.set_column(2, "open", pa.array([[{"a": [1.0]}]]))
    pq.write_table(nested, folder / "nested.parquet")
    return {
        "rows.csv.gz": "it unpacks to more than 256 MB",
        "zeros.csv.gz": "line 1 has more than 1,048,576 bytes, as no line of prices has",
        "one_line.csv.gz": "line 1 has more than 1,048,576 bytes",
        "long.csv": "line 2 has more than 1,048,576 bytes",
        "deep.csv": "line 1 has more than 1,048,576 bytes",
        "returns.csv": "line 1 has more than 1,048,576 bytes",
        "packed.csv": "it holds zero bytes, so it is not UTF-8 text",
        "billions.parquet": "it unpacks to more than 256 MB",
        "repeated.parquet": "it repeats a text of 1,048,576 bytes",
        "nested.parquet": "column open: it holds list<",
    }


READ_THEM = """
import resource, sys
from pathlib import Path
from steps.market.price_stream import open_price_stream
from steps.market.prices import PriceError, load_prices, open_prices
import duckdb
begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    for how in ("load", "stream") if path.suffix == ".parquet" else ("load",):
        try:
            with open_prices(str(path)) as files:
                if how == "load":
                    load_prices(str(path))
                else:
                    with open_price_stream(files):
                        pass
            told = "was taken"
        except PriceError as error:
            told = " ".join(str(error).split())
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begin
        print(path.name, how, used // 1024, told, sep="\\t")
"""


@pytest.mark.thorough
def test_prices_that_unpack_to_no_end(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "bombs").mkdir()
    expected = bombs(tmp_path / "bombs")
    done = run_python("-c", READ_THEM, "bombs")
    assert done.returncode == 0, done.stderr
    told = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(told) == len(expected) + 3
    for name, how, megabytes, message in told:
        assert expected[name] in message, (name, how)
        assert "cannot be used: 1 problem" in message, (name, how)
        assert int(megabytes) < 1300, (name, how)


def test_a_row_count_that_is_a_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    price_rows(rows=77).to_parquet(path, index=False)
    whole = path.read_bytes()
    assert load_prices(path).table.shape == (77, 7)
    # 77 is written as the one byte of a varint that is 154; here it becomes some hundred trillions.
    footer_at = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    footer = whole[footer_at:-8].replace(b"\x9a\x01", b"\x80\x80\x80\x80\x80\x80\x40")
    assert footer != whole[footer_at:-8]
    size = len(footer).to_bytes(4, "little")
    path.write_bytes(whole[:footer_at] + footer + size + b"PAR1")
    with pytest.raises(PriceError, match="it unpacks to more than 256 MB"):
        load_prices(path)


# -- names and identifiers -----------------------------------------------------------------------

UP_AND_AWAY = [
    "../x",
    "../../x.txt",
    "/tmp/candlewick_pwned",
    "a/../../x",
    "a/./x",
    "a\0b",
    "..",
    "",
]


def test_artifact_names_that_lead_elsewhere(database: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file.txt").write_text("harmless")
    with MLflowLogger("names") as logger:
        for name in [*UP_AND_AWAY, "a\\..\\..\\x", "\x1b[31m", "a//b"]:
            for log in (
                lambda name: logger.log_artifacts(tmp_path / "folder", name),
                lambda name: logger.log_artifact_file(tmp_path / "folder" / "file.txt", name),
                lambda name: logger.log_dict_artifact({}, name),
            ):
                with pytest.raises(ValueError, match="cannot be stored: expected names"):
                    log(name)
            for record in (
                lambda name: logger.log_params(**{name: 1}),
                lambda name: logger.log_metrics(**{name: 1}),
                lambda name: logger.log_step_metrics(1, **{name: 1}),
                lambda name: logger.set_tags(**{name: 1}),
            ):
                with pytest.raises(ValueError, match="cannot be stored: expected at most 250"):
                    record(name)
        assert logger.client.list_artifacts(logger.run_id) == []
    assert not Path("/tmp/candlewick_pwned").exists()
    assert not list(tmp_path.rglob("x*"))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["../../x", "/etc/x", "a\0b", "..", "models/%2e%2e", "a:b"])
def test_model_names_that_lead_elsewhere(database: Path, path: str) -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with MLflowLogger("names") as logger:
        try:
            uri = logger.log_model(model, path)
        except (ValueError, mlflow.MlflowException):
            return
        stored = logger.client.get_logged_model(uri.removeprefix("models:/"))
    assert "/" not in stored.name
    assert Path(stored.artifact_location).is_relative_to(database.parent)


@pytest.mark.parametrize(
    "odd", ["x' OR tags.a LIKE '%", "' OR 1=1 --", '"', "`", "a\0b", "%", "../..", "$(touch x)"]
)
def test_identifiers_that_are_filters(database: Path, odd: str) -> None:
    with MLflowLogger("ids", tags={"candlewick.step": "evaluate", "train_run_id": "t"}) as logger:
        pass
    client, here = logger.client, logger.experiment_id
    with pytest.raises(TrackingError):
        find_step_run(client, here, "evaluate", odd)
    with pytest.raises(TrackingError, match="is no snapshot ID"):
        resolve_snapshot(client, here, odd)
    for ids in ((odd, "s"), ("t", odd), (odd, odd)):
        assert find_evaluation(client, *ids) is None
    for uri in (
        f"models:/{odd}/latest",
        f"models:/{odd}@champion",
        f"models:/{odd}/1",
        f"models:/{odd}",
    ):
        with pytest.raises(TrackingError) as caught:
            load_price_model(client, uri)
        assert "\n" not in str(caught.value)


# -- somebody else's snapshot --------------------------------------------------------------------


def make_table(rows: int = 30) -> pd.DataFrame:
    days = pd.bdate_range("2020-01-01", periods=rows).astype("datetime64[s]")
    table = pd.DataFrame({"date": days, "symbol": pd.array(["AAA"] * rows, dtype="str")})
    table["rsi"] = np.linspace(0, 1, rows, dtype=np.float32)
    table["direction"] = pd.array([1] * rows, dtype="Int8")
    table["label_known_at"] = days
    return table


LABEL = {"name": "direction", "horizon": 1}
HONEST = make_snapshot(make_table(), feature_set="core", version="1", label=LABEL)


@pytest.fixture
def plant(database: Path) -> Callable[..., StoredSnapshot]:
    """Store a snapshot as a malicious colleague would: with the right tags, seal and ID."""
    with MLflowLogger("theirs") as logger:
        stored = save_snapshot(logger, HONEST, {}, "key", {"features.py": ""})
    folder = Path(stored.artifact_uri.removeprefix("file://"))
    assert load_snapshot(stored).snapshot_id == HONEST.snapshot_id

    def change(manifest: Any = None, table: pa.Table | None = None, **files: str) -> StoredSnapshot:
        if manifest is not None:
            text = manifest if isinstance(manifest, str) else json.dumps(manifest)
            (folder / "manifest.json").write_text(text)
        if table is not None:
            pq.write_table(table, folder / "features.parquet")
        for name, text in files.items():
            (folder / f"{name}.json").write_text(text)
        told = manifest if isinstance(manifest, dict | list) else HONEST.manifest
        return replace(stored, snapshot_id=manifest_id(told), seal=seal(folder))

    return change


Plant = Callable[..., StoredSnapshot]


@pytest.mark.parametrize(
    "manifest",
    [
        [],
        ["feature_names"],
        {},
        {**HONEST.manifest, "symbols": {"AAA": 1}},
        {**HONEST.manifest, "symbols": ["AAA", 1]},
        {**HONEST.manifest, "symbols": [ESCAPES]},
        {**HONEST.manifest, "feature_names": "rsi"},
        {**HONEST.manifest, "feature_names": {"rsi": 1}},
        {**HONEST.manifest, "label": "direction"},
        {**HONEST.manifest, "label": {"horizon": {"__class__": 1}}},
        {**HONEST.manifest, "label": {"horizon": True}},
        {**HONEST.manifest, "row_count": "30"},
        {**HONEST.manifest, "row_count": 10**12},
        {**HONEST.manifest, "feature_set": ["core"]},
        {**HONEST.manifest, "version": None},
        {**HONEST.manifest, "values_sha256": 0},
        {**HONEST.manifest, "more": 1},
    ],
    ids=range(17),
)
def test_manifests_of_another_kind(manifest: Any, plant: Plant) -> None:
    with pytest.raises((SnapshotError, TrackingError), match="run featurize again") as caught:
        load_snapshot(plant(manifest))
    assert "\n" not in str(caught.value)
    assert not UNSEEN.search(str(caught.value))


@pytest.mark.parametrize(
    "deep", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000], ids=range(3)
)
def test_manifests_that_are_deep(deep: str, plant: Plant) -> None:
    problem = r"cannot be read .*(RecursionError|JSONDecode)"
    stored = plant(provenance=deep)
    with pytest.raises(TrackingError, match=problem):
        load_provenance(stored)
    stored = plant(deep)
    with pytest.raises(TrackingError, match=problem):
        load_snapshot(stored)


@pytest.mark.slow
def test_manifests_that_are_huge_are_not_read(plant: Plant) -> None:
    with pytest.raises(TrackingError, match=r"manifest.json has 67,108,8\d\d bytes, expected 67,1"):
        load_snapshot(plant(" " * (64 * 2**20 + 1)))


def test_tables_that_hold_more_than_the_manifest(plant: Plant) -> None:
    honest = to_arrow(HONEST.table)
    nested = pa.array([[{"a": 1}]] * 30)
    for table, problem in (
        (honest.append_column("more", nested), "not those of the manifest: 'more'"),
        (honest.set_column(2, "rsi", nested), "not those of the manifest: 'rsi'"),
        (honest.append_column("rsi", honest["rsi"]), "not those of the manifest"),
        (honest.select([0, 1, 2, 3]), "not those of the manifest: 'label_known_at'"),
        (pa.concat_tables([honest] * 2), "it has 60 rows, the manifest 30"),
        (honest.slice(0, 0), "it has 0 rows, the manifest 30"),
    ):
        with pytest.raises(TrackingError, match=re.escape(problem)) as caught:
            load_snapshot(plant(table=table))
        assert "\n" not in str(caught.value)


@pytest.mark.thorough
def test_tables_that_unpack_to_no_end(plant: Plant) -> None:
    rows = 40_000_000
    zeros = pa.array(np.zeros(rows, np.float32))
    days = pa.array(np.zeros(rows, np.int32)).view(pa.date32())
    symbols = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["A"]))
    table = pa.table(
        [days, symbols, zeros, zeros.cast(pa.int8()), days], to_arrow(HONEST.table).column_names
    )
    manifest = {**HONEST.manifest, "row_count": rows}
    stored = plant(manifest, table)
    del table, zeros, days, symbols
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TrackingError, match="it unpacks to more than 256 MB, 50 times its size"):
        load_snapshot(stored)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 1024
    # One long name for all rows: a megabyte in the file, a terabyte for whoever unpacks it.
    honest = to_arrow(HONEST.table)
    long = honest.set_column(1, "symbol", pa.array(["x" * 2**24] * 30))
    with pytest.raises(TrackingError, match="it unpacks to more than 256 MB, 50 times its size"):
        load_snapshot(plant(HONEST.manifest, long))


class Trap:
    """Leaves a file where somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_what_a_table_says_of_pandas_and_of_types_is_not_obeyed(
    plant: Plant, tmp_path: Path
) -> None:
    honest = to_arrow(HONEST.table)
    pandas = {
        "index_columns": [
            "symbol",
            {"kind": "range", "name": None, "start": 5, "stop": 9, "step": 1},
        ],
        "columns": [
            {
                "name": n,
                "field_name": n,
                "pandas_type": "object",
                "numpy_type": "object",
                "metadata": None,
            }
            for n in honest.column_names
        ],
        "column_indexes": [],
        "pandas_version": "3",
    }
    pickled = pickle.dumps(Trap(tmp_path / "pwned"))
    field = pa.field(
        "rsi",
        pa.float32(),
        metadata={
            b"ARROW:extension:name": b"arrow.py_extension_type",
            b"ARROW:extension:metadata": pickled,
        },
    )
    schema = honest.schema.set(2, field).with_metadata({b"pandas": json.dumps(pandas).encode()})
    table = pa.Table.from_arrays(honest.columns, schema=schema)
    found = load_snapshot(plant(table=table))
    pd.testing.assert_frame_equal(found.table, HONEST.table)
    assert not (tmp_path / "pwned").exists()
    assert pickle.loads(pickled) is None  # the trap works
    assert (tmp_path / "pwned").exists()


class Liar(http.server.BaseHTTPRequestHandler):
    """A tracking server that lists an artifact outside of the folder that was asked for."""

    name: ClassVar[str] = "../../../pwned"

    def do_GET(self) -> None:
        listing = {"files": [{"path": self.name, "is_dir": False, "file_size": 5}]}
        body = json.dumps(listing).encode() if "path=" in self.path else b"pwned"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def liar() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts"
        server.shutdown()


@pytest.mark.parametrize("name", ["../../../pwned", "/tmp/candlewick_pwned", "a/../../../pwned"])
def test_a_server_that_lists_files_elsewhere(
    name: str, liar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a" / "b" / "c" / "d"))
    monkeypatch.setattr(Liar, "name", name)
    with pytest.raises(TrackingError) as caught:
        load_snapshot(StoredSnapshot("0" * 32, "r", f"{liar}/snapshot"))
    assert "\n" not in str(caught.value)
    with pytest.raises(TrackingError) as caught:
        load_model(f"{liar}/model")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*pwned*"))
    assert not Path("/tmp/candlewick_pwned").exists()


# -- somebody else's model -----------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder with a model that others can name as they like."""
    booster = xgboost.train({}, xgboost.DMatrix(np.eye(3), label=[0, 1, 0]), 1)
    mlflow.xgboost.save_model(booster, tmp_path / "theirs", pip_requirements=["xgboost"])
    return tmp_path / "theirs"


def describe(folder: Path, flavor: str, metadata: Any = None, **changes: Any) -> None:
    description = yaml.safe_load((folder / "MLmodel").read_text())
    description["flavors"].setdefault(flavor, {}).update(changes)
    if flavor != "xgboost":
        description["flavors"].pop("xgboost", None)
    description["metadata"] = metadata
    (folder / "MLmodel").write_text(yaml.safe_dump(description))


def trap_code(folder: Path, package: str) -> None:
    """Put code into a model that leaves a file where it is run."""
    code = folder / "code" / package
    (code / "serving").mkdir(parents=True)
    trap = f"import pathlib; pathlib.Path({str(folder.parent / 'pwned')!r}).touch()\n"
    for name in ("__init__.py", "serving/__init__.py", "serving/price_model.py"):
        (code / name).write_text(trap)


PRICES = {"takes": "prices"}


@pytest.mark.thorough
def test_models_that_ask_for_more_than_they_should(theirs: Path, database: Path) -> None:
    client = MLflowLogger("models").client
    plain = shutil.copytree(theirs, theirs.parent / "plain")
    load_model(str(theirs))
    trap_code(theirs, "trap")
    carried = {"code": "code", "data": "data", "env": {}, "python_version": "3.11"}
    pickled = theirs / "python_model.pkl"
    pickled.write_bytes(pickle.dumps(Trap(theirs.parent / "pwned")))
    skops.io.dump(make_pipeline(FunctionTransformer(print)), theirs / "model.skops")
    outside = theirs.parent / "outside.ubj"
    shutil.copy(theirs / "model.ubj", outside)

    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("python_function", PRICES, {**carried, "loader_module": "trap"}),
        ("python_function", PRICES, {**carried, "loader_module": "trap.serving.price_model"}),
        ("python_function", PRICES, {**carried, "loader_module": "mlflow.pyfunc.model"}),
        (
            "python_function",
            PRICES,
            {**carried, "loader_module": "candlewick_0.serving.price_model", "code": ".."},
        ),
        (
            "python_function",
            PRICES,
            {**carried, "loader_module": "candlewick_0.serving.price_model", "data": "../outside"},
        ),
        ("python_function", None, {**carried, "loader_module": "trap"}),
        ("xgboost", None, {"model_class": "trap.Model"}),
        ("xgboost", None, {"model_class": "xgboost.core.Booster", "code": "code"}),
        ("xgboost", None, {"model_class": "xgboost.core.Booster", "data": "../outside.ubj"}),
        ("sklearn", None, {"pickled_model": "model.skops", "serialization_format": "skops"}),
        ("sklearn", None, {"pickled_model": "python_model.pkl", "serialization_format": "pickle"}),
        ("sklearn", None, {"pickled_model": "../outside.ubj"}),
    ]
    for flavor, metadata, changes in cases:
        for is_sealed in (False, True):
            folder = shutil.copytree(theirs, theirs.parent / "copy")
            describe(folder, flavor, metadata, **changes)
            if is_sealed:
                seal(folder)
            for load in (load_model, partial(load_price_model, client)):
                with pytest.raises(TrackingError) as caught:
                    load(str(folder))
                assert "\n" not in str(caught.value), changes
                assert not (theirs.parent / "pwned").exists(), changes
            shutil.rmtree(folder)

    # Links, in a folder on this machine: what they lead to is neither read nor copied.
    secret = theirs.parent / "secret.ubj"
    shutil.move(plain / "model.ubj", secret)
    (plain / "model.ubj").symlink_to(secret)
    with pytest.raises(TrackingError) as caught:
        load_model(str(plain))
    assert "\n" not in str(caught.value)
    (plain / "model.ubj").unlink()
    shutil.copy(secret, plain / "model.ubj")
    (plain / "more").symlink_to("/etc", target_is_directory=True)
    with pytest.raises(TrackingError):
        load_model(str(plain))
    (plain / "more").unlink()
    load_model(str(plain))
    with (plain / "MLmodel").open("a") as file:
        file.write("\n# " + "x" * (16 * 2**20))
    with pytest.raises(TrackingError, match="MLmodel is larger than 16,777,216 bytes"):
        load_model(str(plain))
    (plain / "MLmodel").write_text("a: " + "[" * 100_000)
    with pytest.raises(TrackingError) as caught:
        load_model(str(plain))
    assert "\n" not in str(caught.value)


# -- whole runs ----------------------------------------------------------------------------------

METACHARACTERS = [
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; echo '",
    '"; touch pwned; echo "',
    "x\ntouch pwned\n",
    "| touch pwned",
    "&& touch pwned",
    "> pwned",
    "--output=pwned",
    "{prices} ${HOME} %s {0}",
]


@pytest.mark.slow
def test_parameters_are_no_commands(
    database: Path,
    in_empty_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    everything = " ".join(METACHARACTERS)
    monkeypatch.setenv("PATH", environment()["PATH"])
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    with pytest.raises(ExecutionException):
        mlflow.projects.run(
            str(ROOT),
            entry_point="predict",
            parameters={
                **dict.fromkeys(("prices", "model_uri", "symbols"), everything),
                "output": f"{everything}.csv",
            },
            env_manager="local",
        )
    assert "candlewick predict failed: " in capfd.readouterr().err
    assert not list(in_empty_folder.rglob("pwned*"))
    assert not (ROOT / "pwned").exists()


class Hazards(HTMLParser):
    """Collects what in a page could run, or fetch something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "img", "link", "form", "foreignobject"):
            self.found.append(tag)
        for name, value in attributes:
            fetches = name in ("src", "href", "xlink:href", "action", "data")
            if name.startswith("on") or (
                fetches and not (value or "").startswith(("#", "data:image/"))
            ):
                self.found.append(f"{tag} {name}={value}")


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "]]></svg><style>*{display:none}</style>-->",
    "$\\frac{1}{$ ![x](http://127.0.0.1:9/x) [c](javascript:alert(1))",
    "{{ 7 * 7 }}{% raw %}&lt;/dd&gt;",
]


@pytest.mark.slow
def test_names_in_reports_and_notes_are_text(database: Path, tmp_path: Path) -> None:
    table = load_prices("sample").table
    names = dict(zip(sorted(table["symbol"].unique()), HOSTILE, strict=True))
    table["symbol"] = table["symbol"].map(names).astype("str")
    file = "<img src=x onerror=alert(2)>" + "$(touch pwned)`'\".parquet"
    table.groupby("symbol").tail(500).to_parquet(tmp_path / file, index=False)
    params = MainParams(prices=file, n_estimators=4, early_stopping_rounds=0, n_resamples=100)
    with open_step("main", params) as logger:
        main(params, logger)
    (report,) = Path("mlruns").rglob("report.html")
    page = report.read_text()
    hazards = Hazards()
    hazards.feed(page)
    assert hazards.found == []
    assert page.count("<style") == page.count("</style>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    for run in logger.client.search_runs([logger.experiment_id]):
        note = run.data.tags.get("mlflow.note.content", "")
        assert "![" not in note
        assert "javascript:" not in note
    assert not list(tmp_path.rglob("pwned"))
