"""The notebooks: what is committed is clean, and says what is still computed today."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys

import nbformat
import pytest
from execute_notebooks import FOLDER, find_faults, find_traces, normalise, to_text
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = FOLDER.parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 300_000  # bytes
DECIMAL = re.compile(r"-?\d+\.\d+")
EXECUTE_FROM_ROOT = """
import sys, nbformat, pathlib, execute_notebooks
notebook = nbformat.read(sys.argv[1], as_version=4)
execute_notebooks.execute(notebook, pathlib.Path(sys.argv[1]).parents[1])
sys.exit("\\n".join(execute_notebooks.find_faults(notebook)) or None)
"""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def run(*arguments, folder):
    """Run Python in a folder, with nothing decided about MLflow and no help to find `steps`."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MLFLOW_") and name != "PYTHONPATH"
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def tree(tmp_path):
    """A copy of what the notebooks need, with no runs in it."""
    for name in ("steps", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "execute_notebooks.py", tmp_path / "tests")
    return tmp_path


def readable_outputs(path):
    """Return, by cell, all text that a reader of the outputs sees."""
    return {
        cell.id: " ".join(
            (output.text if output.output_type == "stream" else output.data["text/plain"])
            for output in cell.outputs
        ).split()
        for cell in read(path).cells
        if cell.cell_type == "code"
    }


def test_there_is_one_for_every_step():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_featurize",
        "02_train",
        "03_evaluate",
        "04_walk_forward",
        "05_predict",
    ]


@each_notebook
def test_committed_as_the_script_writes_it(path):
    notebook = read(path)
    normalise(notebook)
    assert to_text(notebook) == path.read_text(encoding="utf-8"), "run `make notebooks`"


@each_notebook
def test_executed_in_order_and_fit_to_publish(path):
    notebook = read(path)
    assert list(find_faults(notebook)) == []
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 3
    assert path.stat().st_size < LARGEST


@each_notebook
def test_links_lead_somewhere(path):
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", prose)
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []


@pytest.mark.parametrize(
    "text",
    [
        "saved in /home/quant/candlewick/mlflow.db",
        "<td>/var/folders/xy/T/prices.csv</td>",
        "sqlite:////srv/mlflow.db",
        "file:///srv/mlruns/0",
        r"C:\Users\quant\mlflow.db",
        "~/candlewick",
    ],
)
def test_traces_of_a_machine_are_found(text):
    assert find_traces(text)


@pytest.mark.parametrize(
    "text",
    [
        "gains / (gains + losses); 1/2 if flat; 12/26/9 days",
        "<tr><td>AAPL</td></tr><br/>",
        "sqlite:///mlflow.db, s3://bucket/features/prices.parquet, https://a.example/b/c",
        "models:/m-1234, runs:/abc/model, steps/market/prices.py, base_rate/auc_roc",
    ],
)
def test_innocent_text_is_no_trace(text):
    assert find_traces(text) == []


def test_faults_are_found():
    cells = [
        new_code_cell("1 / 0", id="wrong", execution_count=1),
        new_code_cell("warn()", id="noisy", execution_count=2),
        new_code_cell("2", id="late", execution_count=7),
        new_code_cell("Path.cwd()", id="telling", execution_count=4),
    ]
    cells[0].outputs = [new_output("error", ename="ZeroDivisionError", evalue="", traceback=[])]
    cells[1].outputs = [new_output("stream", name="stderr", text="a warning")]
    cells[3].outputs = [
        new_output("execute_result", data={"text/plain": "Path('/home/quant/x')"}),
        new_output("display_data", data={"image/png": "no/text/in/here"}),
    ]
    assert [fault.split(":")[0] for fault in find_faults(new_notebook(cells=cells))] == [
        "cell wrong",
        "cell noisy",
        "cell late",
        "cell telling",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1 / 0", "broken.ipynb, cell only: ZeroDivisionError"),
        ("import os; print(os.getcwd())", "broken.ipynb, cell only: a trace of this machine"),
        ("import warnings; warnings.warn('hm')", "broken.ipynb, cell only: on standard error"),
    ],
)
def test_a_notebook_with_a_fault_stays_as_it_was(tmp_path, source, reason):
    path = tmp_path / "notebooks" / "broken.ipynb"
    path.parent.mkdir()
    path.write_text(nbformat.writes(new_notebook(cells=[new_code_cell(source, id="only")])))
    before = path.read_bytes()

    ended = run(ROOT / "tests" / "execute_notebooks.py", path, folder=tmp_path)

    assert ended.returncode == 1
    assert reason in ended.stderr
    assert path.read_bytes() == before


@pytest.mark.slow
def test_executed_anew_they_say_the_same(tree):
    """One after the other, from their own folder, as `make notebooks` does."""
    ended = run("tests/execute_notebooks.py", folder=tree)

    assert ended.returncode == 0, ended.stderr
    for path in NOTEBOOKS:
        committed, computed = (readable_outputs(p) for p in (path, tree / "notebooks" / path.name))
        assert committed.keys() == computed.keys()
        for cell, words in committed.items():
            # CPUs differ in the last digits of what a model learns, and pictures in everything.
            assert [DECIMAL.sub("#", word) for word in computed[cell]] == [
                DECIMAL.sub("#", word) for word in words
            ], f"{path.name}, cell {cell}: run `make notebooks`"
            numbers = [float(n) for n in DECIMAL.findall(" ".join(words))]
            assert [float(n) for n in DECIMAL.findall(" ".join(computed[cell]))] == pytest.approx(
                numbers, rel=0.02, abs=0.02
            ), f"{path.name}, cell {cell}: run `make notebooks`"
    with sqlite3.connect(tree / "mlflow.db") as database:
        runs = database.execute("SELECT name, status FROM runs ORDER BY start_time").fetchall()
    database.close()
    names = [name.partition(" ")[0] for name, _ in runs]
    expected = ["featurize", "train", "evaluate", "walk_forward", *["fold"] * 10, "evaluate"]
    assert names == expected
    assert {status for _, status in runs} == {"FINISHED"}


@pytest.mark.thorough
@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_each_works_alone_and_from_the_repository_root(tree, path):
    ended = run("-c", EXECUTE_FROM_ROOT, tree / "notebooks" / path.name, folder=tree / "tests")

    assert ended.returncode == 0, ended.stderr
    assert (tree / "mlflow.db").is_file()
