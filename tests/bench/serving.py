"""`make bench`: what it costs to serve a model that takes prices, beside the bare one.

Trains on the sample, serves either model by itself on loopback, and prints one Markdown table.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from end_to_end.model_server import JSON, serve_model

from steps.entry_point import open_step
from steps.market.features import compute_features, get_feature_set
from steps.market.prices import SAMPLE, load_prices
from steps.train import TrainParams, train

CLIENTS = (1, 8, 32)
REQUESTS = 96  # of each kind at each number of clients
WARM_UP = 16
LENGTHS = (60, 540)  # rows of prices per symbol


@dataclass(frozen=True)
class Timing:
    """How long some requests took.

    Attributes
    ----------
    seconds : ndarray, shape (REQUESTS,)
        From the request's first byte to the answer's last.
    rate : float
        Requests per second, of all clients together.
    """

    seconds: np.ndarray
    rate: float

    def quantile(self, share: float) -> float:
        """Return a quantile in milliseconds."""
        return float(np.quantile(self.seconds, share)) * 1e3

    def cells(self) -> list[str]:
        return [f"{self.quantile(0.5):.1f}", f"{self.quantile(0.99):.1f}", f"{self.rate:.0f}"]


def train_here() -> dict[str, str]:
    """Train with the recipe's defaults, recorded in this folder; return the run's tags."""
    params = TrainParams()
    with open_step("train", params) as logger:
        train(params, logger)
        return dict(logger.tags)


def newest_prices(rows: int) -> pd.DataFrame:
    """Return the newest rows of five symbols; FB was listed too late, IBM stands in for it."""
    table = load_prices(SAMPLE).table
    long = table[table["symbol"] != "FB"]
    double = long[long["symbol"] == "IBM"].assign(symbol="FB")
    five = pd.concat([long, double]).sort_values(["symbol", "date"])
    return five.groupby("symbol").tail(rows).reset_index(drop=True)


def price_request(rows: int) -> bytes:
    prices = newest_prices(rows)
    return _request(prices.assign(date=prices["date"].dt.strftime("%Y-%m-%d")))


def feature_request() -> bytes:
    """Return a request for the same forecasts by the features of the same five rows."""
    core = get_feature_set("core")
    features = compute_features(newest_prices(max(LENGTHS)), core)
    return _request(features.groupby("symbol").tail(1)[list(core.names)].astype(float))


def _request(table: pd.DataFrame) -> bytes:
    return json.dumps({"dataframe_split": table.to_dict("split", index=False)}).encode()


def measure(port: int, body: bytes) -> Iterator[Timing]:
    """Yield the timing of one request, repeated, at each number of clients."""
    _client(port, body, WARM_UP)
    for clients in CLIENTS:
        with ThreadPoolExecutor(clients) as pool:
            started = time.perf_counter()
            each = [pool.submit(_client, port, body, REQUESTS // clients) for _ in range(clients)]
            seconds = np.concatenate([done.result() for done in each])
            yield Timing(seconds, len(seconds) / (time.perf_counter() - started))


def _client(port: int, body: bytes, requests: int) -> np.ndarray:
    """Send requests one after the other over one connection."""
    seconds = np.empty(requests)
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.connect()
        for number in range(requests):
            started = time.perf_counter()
            connection.request("POST", "/invocations", body, JSON)
            response = connection.getresponse()
            content = response.read()
            seconds[number] = time.perf_counter() - started
            if response.status != 200:
                raise RuntimeError(f"the server answered {response.status}: {content[:500]!r}")
    return seconds


def serve_and_measure(uri: str, bodies: list[bytes]) -> list[list[Timing]]:
    """Return for each body the timings at each number of clients."""
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path('mlflow.db').resolve()}"
        with serve_model(uri, Path(folder), MLFLOW_TRACKING_URI=store) as server:
            return [list(measure(server.port, body)) for body in bodies]


def table_lines(price: list[list[Timing]], bare: list[Timing]) -> Iterator[str]:
    titles = [
        *("prices", "clients", "p50 ms", "p99 ms", "requests/s"),
        *("bare p50 ms", "bare p99 ms", "bare requests/s", "p50 price/bare"),
    ]
    yield _row(titles)
    yield _row(["---", *["---:"] * (len(titles) - 1)])
    for rows, timings in zip(LENGTHS, price, strict=True):
        for clients, ours, theirs in zip(CLIENTS, timings, bare, strict=True):
            ratio = ours.quantile(0.5) / theirs.quantile(0.5)
            cells = [f"5 x {rows} rows", str(clients), *ours.cells(), *theirs.cells()]
            yield _row([*cells, f"{ratio:.2f}"])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]  # recorded in the temporary folder, whatever is decided outside
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        tags = train_here()
        price = serve_and_measure(tags["model_uri"], [price_request(rows) for rows in LENGTHS])
        (bare,) = serve_and_measure(tags["feature_model_uri"], [feature_request()])
    print(
        f"\n{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()},",
        f"MLflow {version('mlflow')}, XGBoost {version('xgboost')};",
        f"{REQUESTS} requests a line, clients on the same machine, one server process\n",
    )
    print(*table_lines(price, bare), sep="\n")


if __name__ == "__main__":
    main()
