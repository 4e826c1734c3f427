"""Passwords and keys are planted in every setting; afterwards nobody finds them anywhere."""

import base64
import gzip
import html
import http.server
import json
import re
import subprocess
import sys
import threading
import urllib.parse
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import mlflow
import nbformat
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from end_to_end.recipe import environment

from steps.entry_point import ParameterError, as_typed
from steps.market.prices import PriceError, load_prices
from steps.pipeline import MainParams, main

pytestmark = pytest.mark.slow

SECRETS = {
    name: f"planted+{name}/3f9c"
    for name in (
        *("postgres", "dotenv", "tracking_password", "tracking_token", "aws_key", "aws_session"),
        *("uri", "prices_password", "prices_signature", "prices_other", "git", "admin"),
    )
}
PLANTED = {
    "MLFLOW_POSTGRES_URI": f"postgresql://quant:{SECRETS['postgres']}@127.0.0.1:1/mlflow",
    "MLFLOW_TRACKING_PASSWORD": SECRETS["tracking_password"],
    "MLFLOW_TRACKING_TOKEN": SECRETS["tracking_token"],
    "MLFLOW_AUTH_ADMIN_PASSWORD": SECRETS["admin"],
    "AWS_ACCESS_KEY_ID": "quant",
    "AWS_SECRET_ACCESS_KEY": SECRETS["aws_key"],
    "AWS_SESSION_TOKEN": SECRETS["aws_session"],
}


def forms(secret: str) -> set[str]:
    """How a secret may be written down by those who know it."""
    quoted = urllib.parse.quote(secret, safe="")
    by_user = base64.b64encode(f"quant:{secret}".encode()).decode()
    return {secret, quoted, urllib.parse.quote(secret), html.escape(secret), by_user}


def find_secrets(text: str, *, but: tuple[str, ...] = ()) -> list[str]:
    return [
        name
        for name, secret in SECRETS.items()
        if name not in but and any(form in text for form in forms(secret))
    ]


def texts(file: Path) -> Iterator[str]:
    """What is in a file, and in what it packs."""
    content = file.read_bytes()
    yield content.decode(errors="replace")
    yield content.decode("utf-16-le", errors="replace")
    if content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content).decode(errors="replace")
    if content[:4] == b"PAR1":
        table = pq.read_table(file)
        yield str(table.schema.metadata)
        yield json.dumps(
            [c.combine_chunks().dictionary_encode().dictionary.to_pylist() for c in table.columns],
            default=str,
        )
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                yield archive.read(name).decode(errors="replace")


def assert_nothing_in(folder: Path, *, but: tuple[str, ...] = ()) -> None:
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".env"]
    found = {
        str(f.relative_to(folder)): find_secrets(t, but=but)
        for f in files
        for t in texts(f)
        if find_secrets(t, but=but)
    }
    assert not found


class Guarded(http.server.BaseHTTPRequestHandler):
    """Prices for those who know the password and the signature."""

    prices: ClassVar[bytes] = (ROOT / "steps" / "market" / "sample" / "prices.parquet").read_bytes()

    def do_GET(self) -> None:
        told = base64.b64decode(self.headers.get("Authorization", "Basic ").partition(" ")[2])
        user, _, password = told.decode().partition(":")
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        knows = (user, password) == ("quant", SECRETS["prices_password"])
        knows = knows and query.get("X-Amz-Signature") == SECRETS["prices_signature"]
        found = knows and self.path.startswith("/prices.parquet")
        self.send_response(200 if found else 404 if knows else 403)
        body = self.prices if found else b"no"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the server's names for them

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def prices() -> Iterator[str]:
    """A URL of prices that holds a password and a signature."""
    user = f"quant:{urllib.parse.quote(SECRETS['prices_password'], safe='')}"
    query = urllib.parse.urlencode(
        {"X-Amz-Signature": SECRETS["prices_signature"], "other": SECRETS["prices_other"]}
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{user}@127.0.0.1:{server.server_port}/prices.parquet?{query}"
        server.shutdown()


class Watched:
    """Runs commands, and notes how each process they start can be seen in a listing."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("tmp", "state", "work"):
            (home / name).mkdir()
        (home / "work" / ".env").write_text(
            f"MLFLOW_POSTGRES_URI=postgresql://quant:{SECRETS['dotenv']}@127.0.0.1:1/mlflow\n"
        )
        self.seen: set[tuple[str, ...]] = set()

    def run(self, *command: str, **changes: str) -> tuple[int, str]:
        changes = {
            "CANDLEWICK_STATE": str(self.home / "state"),
            "TMPDIR": str(self.home / "tmp"),
        } | changes
        process = subprocess.Popen(
            command,
            cwd=self.home / "work",
            env=environment(PYTHONPATH=str(ROOT), **(PLANTED | changes)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        done = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(psutil.Process(process.pid), done))
        sampler.start()
        told, _ = process.communicate(timeout=300)
        done.set()
        sampler.join()
        return process.returncode, told

    def _sample(self, process: psutil.Process, done: threading.Event) -> None:
        while not done.wait(0.05):
            try:
                self.seen |= {tuple(child.cmdline()) for child in process.children(recursive=True)}
            except psutil.Error:
                continue


@pytest.fixture
def watched(tmp_path: Path, migrated_database: Path) -> Watched:
    watched = Watched(tmp_path)
    (tmp_path / "work" / "mlflow.db").write_bytes(migrated_database.read_bytes())
    return watched


@pytest.mark.thorough
def test_a_run_that_succeeds_and_one_that_fails(watched: Watched, prices: str) -> None:
    store = f"sqlite:///{watched.home}/work/mlflow.db"
    quick = ("--n_estimators=3", "--early_stopping_rounds=0", "--n_resamples=100")
    status, told = watched.run(
        sys.executable,
        "-m",
        "steps.pipeline",
        f"--prices={prices}",
        *quick,
        MLFLOW_TRACKING_URI=store,
    )
    assert status == 0, told
    assert find_secrets(told) == []
    address = re.escape(prices.partition("@")[2].partition("?")[0])
    client = mlflow.MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'stock_prediction'")
    runs = client.search_runs([experiment.experiment_id])
    recorded = {run.data.params.get("prices") for run in runs} - {None}
    assert len(recorded) == 1  # and one can see which prices they were
    assert re.fullmatch(rf"http://{address}\?…", recorded.pop())

    wrong = prices.replace("/prices.parquet", "/nothing.parquet")
    status, told = watched.run(
        sys.executable, "-m", "steps.featurize", f"--prices={wrong}", MLFLOW_TRACKING_URI=store
    )
    assert status == 1
    assert "cannot be opened: there is no such file" in told
    assert find_secrets(told) == []
    assert_nothing_in(watched.home)
    assert not [line for line in watched.seen if find_secrets(" ".join(line))]


@pytest.mark.thorough
def test_stores_that_are_not_there(watched: Watched) -> None:
    by_uri = f"http://quant:{SECRETS['uri']}@127.0.0.1:1"
    for changes in (
        {"MLFLOW_TRACKING_URI": by_uri},
        {"MLFLOW_BACKEND": "remote", "MLFLOW_POSTGRES_URI": ""},  # then that of .env counts
    ):
        status, told = watched.run(sys.executable, "-m", "steps.featurize", **changes)
        assert status == 1
        assert "candlewick featurize failed: " in told
        assert find_secrets(told) == []
    assert_nothing_in(watched.home)
    assert not [line for line in watched.seen if find_secrets(" ".join(line))]


@pytest.mark.slow
def test_what_mlflow_run_records_by_itself_is_told(watched: Watched, prices: str) -> None:
    """It records parameters as they were typed, before any of our code runs."""
    store = f"sqlite:///{watched.home}/work/mlflow.db"
    status, told = watched.run(
        *(sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local"),
        *("-e", "featurize", "-P", f"prices={prices}"),
        MLFLOW_TRACKING_URI=store,
    )
    assert status == 0, told
    ours = told[told.index("warning: ") :]
    assert "warning: mlflow run has recorded prices= as it was typed" in ours
    assert find_secrets(ours) == []
    of_prices = ["prices_password", "prices_signature", "prices_other"]
    recorded = (watched.home / "work" / "mlflow.db").read_bytes().decode(errors="replace")
    assert find_secrets(recorded) == of_prices  # so the search does find them where they are
    assert_nothing_in(watched.home, but=tuple(of_prices))
    assert_nothing_in(watched.home / "work" / "mlruns")


def test_a_way_to_give_a_password_that_nobody_records(
    prices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SECURITY.md says: in the environment, where fsspec looks for it when it is imported."""
    secret = base64.b64encode(f"quant:{SECRETS['prices_password']}".encode()).decode()
    plain = f"http://{prices.partition('@')[2]}"
    with pytest.raises(PriceError, match=r"prices.parquet\?… cannot be opened"):
        load_prices(plain)
    headers = json.dumps({"headers": {"Authorization": f"Basic {secret}"}})
    monkeypatch.setenv("FSSPEC_HTTP_CLIENT_KWARGS", headers)
    monkeypatch.setattr("fsspec.config.conf", {})
    fsspec.config.set_conf_env(fsspec.config.conf)
    fsspec.filesystem("http").clear_instance_cache()
    assert len(load_prices(plain).table) == 12154


def test_parameters_that_others_read(prices: str) -> None:
    params = MainParams(prices=prices, isolation="project")
    assert find_secrets(as_typed(params)) == []
    assert "prices='http://127.0.0.1:" in as_typed(params)
    assert as_typed(MainParams(prices="a?b=c.csv")) == "-P prices='a?b=c.csv'"
    with pytest.raises(ParameterError, match="isolation=project would show and record what is"):
        main(params, None)  # type: ignore[arg-type] - it does not come to using the logger


def test_the_search_finds_what_is_packed_and_encoded(tmp_path: Path) -> None:
    secret = SECRETS["uri"]
    pq.write_table(pa.table({"a": ["x", secret]}), tmp_path / "a.parquet")
    (tmp_path / "a.gz").write_bytes(gzip.compress(secret.encode()))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", secret)
    (tmp_path / "a.html").write_text(urllib.parse.quote(secret, safe=""))
    (tmp_path / "a.txt").write_text(base64.b64encode(f"quant:{secret}".encode()).decode())
    for file in tmp_path.iterdir():
        assert {name for text in texts(file) for name in find_secrets(text)} == {"uri"}


def test_notebooks_hold_no_secrets() -> None:
    found = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = json.dumps(nbformat.read(path, as_version=4))  # type: ignore[no-untyped-call]
        found += re.findall(
            r"://[^/\s:\"]*:[^/\s\"]*@|AKIA[A-Z0-9]{12}|(?:password|token|secret)=\w+", text
        )
        assert len(text) > 1000
    assert found == []
