"""engine=dask for train: the model of one process, within bounds, also when workers are killed."""

import importlib.metadata
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost

from steps.engines import ClusterError, dask, dask_xgboost
from steps.engines.dask import Cluster, open_cluster
from steps.engines.dask_xgboost import OpenCluster, fit_on_cluster
from steps.entry_point import ParameterError, open_step, parse_params
from steps.featurize import FeaturizeParams, featurize
from steps.learning.boosting import Batched
from steps.learning.models import FittedModel, fit_booster
from steps.pipeline import MainParams
from steps.reproduce import NotReproducedError, ReproduceParams, reproduce
from steps.train import TrainParams, train

pytestmark = pytest.mark.slow

SAMPLING = {"subsample": 0.8, "colsample_bytree": 0.8}


def window(rows: int, *, seed: int = 0, digits: int = 8) -> Batched:
    """Return made-up rows, in batches of several sizes, with a weak signal in them."""
    random = np.random.default_rng(seed)
    X = pd.DataFrame(
        random.normal(size=(rows, 6)).round(digits).astype(np.float32), columns=list("abcdef")
    )
    y = (X["a"] + 0.5 * X["b"] + 2 * random.normal(size=rows) > 0).to_numpy(np.int8)
    batches = [X[start:stop] for start, stop in pairwise([0, 1, rows // 3, rows])]
    return Batched(lambda: iter(batches), y)


def hyperparameters(**given: Any) -> dict[str, Any]:
    few = TrainParams(n_estimators=40, learning_rate=0.2, early_stopping_rounds=10)
    return few.hyperparameters | given


def forecast(fitted: FittedModel, rows: Batched) -> Any:
    return fitted.model.predict(xgboost.DMatrix(pd.concat(rows.batches())))


@pytest.fixture(scope="module")
def two_workers() -> Iterator[OpenCluster]:
    with open_cluster("none", 2) as opened:
        yield partial(open_cluster, opened.client.scheduler.address, 0)


def silent(line: str) -> None:
    raise AssertionError(line)


@pytest.mark.parametrize("sampling", [SAMPLING, {"subsample": 1.0, "colsample_bytree": 1.0}])
def test_one_worker_makes_the_model_of_one_process_to_the_bit(sampling: dict[str, float]) -> None:
    given = hyperparameters(**sampling)
    windows = window(3_000), window(1_000, seed=1)
    told: list[int] = []
    here = fit_booster(given, *windows)
    there, n_workers = fit_on_cluster(
        partial(open_cluster, "none", 1),
        given,
        *windows,
        on_round=lambda number, scores: told.append(number),
        tell=silent,
    )
    assert n_workers == 1
    assert there.model.save_raw() == here.model.save_raw()
    assert there.best_iteration == here.best_iteration
    assert there.history == here.history
    assert told == list(range(len(here.history["train_log_loss"])))


def test_two_workers_differ_in_rounding_where_quantiles_are_exact(two_workers: OpenCluster) -> None:
    given = hyperparameters(subsample=1.0, colsample_bytree=1.0)
    windows = window(3_000, digits=1), window(1_000, seed=1, digits=1)
    here = fit_booster(given, *windows)
    there, n_workers = fit_on_cluster(two_workers, given, *windows, tell=silent)
    assert n_workers == 2
    assert there.best_iteration == here.best_iteration
    assert np.abs(forecast(there, windows[1]) - forecast(here, windows[1])).max() < 1e-6
    np.testing.assert_allclose(
        there.history["validation_log_loss"], here.history["validation_log_loss"], atol=1e-6
    )


def test_two_workers_always_make_the_same_model(two_workers: OpenCluster) -> None:
    windows = window(3_000), window(1_000, seed=1)
    models = []
    for clusters in (two_workers, partial(open_cluster, "none", 2)):
        found, _ = fit_on_cluster(clusters, hyperparameters(), *windows, tell=silent)
        models.append(found.model.save_raw())
    assert models[0] == models[1]


def test_the_model_needs_no_dask(two_workers: OpenCluster, tmp_path: Path) -> None:
    windows = window(3_000), window(1_000, seed=1)
    fitted, _ = fit_on_cluster(two_workers, hyperparameters(), *windows, tell=silent)
    assert fitted.model.feature_names == list("abcdef")
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(fitted.model))
    command = (
        "import pickle, pathlib, sys; sys.modules['dask'] = sys.modules['distributed'] = None;"
        f"print(pickle.loads(pathlib.Path({str(path)!r}).read_bytes()).num_boosted_rounds())"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout.strip() == str(fitted.best_iteration + 1), done.stderr


class Attacked:
    """Clusters of two processes, the first few of which are attacked once both processes train."""

    def __init__(self, attack: Callable[[Cluster], None], *, times: int = 1) -> None:
        self._attack = attack
        self._times = times
        self.opened = 0

    @contextmanager
    def __call__(self) -> Iterator[Cluster]:
        with open_cluster("none", 2) as cluster:
            self.opened += 1
            if self.opened <= self._times:
                threading.Thread(target=self._when_busy, args=[cluster], daemon=True).start()
            yield cluster

    def _when_busy(self, cluster: Cluster) -> None:
        while not all(cluster.client.processing().values()):
            time.sleep(0.05)
        time.sleep(1)
        self._attack(cluster)


def kill_a_worker(cluster: Cluster) -> None:
    os.kill(max(cluster.client.run(os.getpid).values()), signal.SIGKILL)


def kill_the_scheduler(cluster: Cluster) -> None:
    os.kill(cluster.client.run_on_scheduler(os.getpid), signal.SIGKILL)


LONG = {"n_estimators": 2_000, "early_stopping_rounds": 0}  # many seconds


@pytest.mark.parametrize(
    "attack", [kill_a_worker, pytest.param(kill_the_scheduler, marks=pytest.mark.thorough)]
)
def test_what_is_killed_does_not_lose_the_job(
    two_workers: OpenCluster, attack: Callable[[Cluster], None]
) -> None:
    windows = window(3_000), window(1_000, seed=1)
    told: list[str] = []
    clusters = Attacked(attack)
    found, n_workers = fit_on_cluster(clusters, hyperparameters(**LONG), *windows, tell=told.append)
    assert clusters.opened == n_workers == 2
    assert ["of 2 workers lost while training" in line for line in told] == [True]
    undisturbed, _ = fit_on_cluster(two_workers, hyperparameters(**LONG), *windows, tell=silent)
    assert found.model.save_raw() == undisturbed.model.save_raw()


@pytest.mark.thorough
def test_the_worker_that_is_left_trains_alone() -> None:
    windows = window(3_000), window(1_000, seed=1)
    told: list[str] = []
    with open_cluster("none", 1) as cluster:
        address = cluster.client.scheduler.address
        command = ["-m", "dask", "worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard"]
        with subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL) as other:
            cluster.client.wait_for_workers(2)
            clusters = partial(open_cluster, address, 0)
            fit_on_cluster(clusters, hyperparameters(), *windows, tell=silent)  # all is imported
            threading.Timer(2, other.kill).start()  # they have met: until then, XGBoost may abort
            given = hyperparameters(**LONG)
            found, n_workers = fit_on_cluster(clusters, given, *windows, tell=told.append)
    assert ["1 of 2 workers lost" in line for line in told] == [True]
    assert n_workers == 1
    here = fit_booster(hyperparameters(**LONG), *windows)
    assert found.model.save_raw() == here.model.save_raw()


@pytest.mark.thorough
def test_workers_that_are_started_again_are_waited_for(two_workers: OpenCluster) -> None:
    windows = window(3_000), window(1_000, seed=1)
    told: list[str] = []
    undisturbed, _ = fit_on_cluster(two_workers, hyperparameters(**LONG), *windows, tell=silent)
    with two_workers() as cluster:
        for process in cluster.client.run(os.getpid).values():
            threading.Timer(2, os.kill, [process, signal.SIGKILL]).start()
        found, _ = fit_on_cluster(two_workers, hyperparameters(**LONG), *windows, tell=told.append)
    assert ["2 of 2 workers lost" in line for line in told] == [True]
    # Both, or the one that was back first.
    assert len(found.history["train_log_loss"]) == len(undisturbed.history["train_log_loss"])


@pytest.mark.thorough
def test_training_gives_up_when_workers_are_lost_each_time() -> None:
    windows = window(3_000), window(1_000, seed=1)
    told: list[str] = []
    clusters = Attacked(kill_a_worker, times=9)
    with pytest.raises(ClusterError, match="lost in each of 3 tries"):
        fit_on_cluster(clusters, hyperparameters(**LONG), *windows, tell=told.append)
    assert clusters.opened == 3
    assert len(told) == 2


@pytest.mark.thorough
def test_a_worker_that_hangs_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_xgboost, "_SILENT_SECONDS", 3)
    windows = window(3_000), window(1_000, seed=1)
    with open_cluster("none", 2) as cluster:
        clusters = partial(open_cluster, cluster.client.scheduler.address, 0)
        fit_on_cluster(clusters, hyperparameters(), *windows, tell=silent)  # all is imported
        process = max(cluster.client.run(os.getpid).values())
        threading.Timer(2, os.kill, [process, signal.SIGSTOP]).start()
        with pytest.raises(ClusterError, match="did not hear from each other for 3 seconds"):
            fit_on_cluster(clusters, hyperparameters(**LONG), *windows, tell=silent)
        os.kill(process, signal.SIGKILL)


def test_workers_that_never_come_back_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "_WORKER_SECONDS", 2)
    windows = window(3_000), window(1_000, seed=1)
    with open_cluster("none", 1) as cluster:
        address = cluster.client.scheduler.address

        @contextmanager
        def attacked() -> Iterator[Cluster]:
            with open_cluster(address, 0) as opened:
                threading.Thread(
                    target=cluster.client.retire_workers,
                    kwargs={"close_workers": True},
                    daemon=True,
                ).start()
                yield opened

        with pytest.raises(ClusterError, match="no worker"):
            fit_on_cluster(attacked, hyperparameters(**LONG), *windows, tell=silent)


def test_a_scheduler_without_xgboost_is_refused(
    two_workers: OpenCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(ClusterError, match=r"the scheduler has xgboost \S+ \(here 9.9\)"),
        two_workers() as cluster,
    ):
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
        cluster.check_scheduler()


@pytest.mark.parametrize("params", [TrainParams, MainParams])
def test_other_kinds_of_model_are_refused_in_one_line(params: type[TrainParams]) -> None:
    arguments = ["--engine=dask", "--model_type=random_forest"]
    with pytest.raises(ParameterError, match=r"engine=dask .* not random_forest") as raised:
        parse_params(params, arguments)
    assert "\n" not in str(raised.value)


def test_train_on_the_sample_agrees_as_well_as_docs_say(
    two_workers: OpenCluster, database: Path
) -> None:
    with open_step("featurize", FeaturizeParams()) as logger:
        featurize(FeaturizeParams(), logger)
    with two_workers() as cluster:
        there = {"engine": "dask", "scheduler_address": cluster.client.scheduler.address}
    curves = []
    for given in ({}, there):
        params = TrainParams(early_stopping_rounds=0, n_estimators=30, **given)
        with open_step("train", params) as logger:
            train(params, logger)
        run = logger.client.get_run(logger.run_id)
        assert run.data.tags["engine"] == params.engine
        found = logger.client.get_metric_history(logger.run_id, "validation_log_loss")
        curves.append([point.value for point in sorted(found, key=lambda point: point.step)])
    assert len(curves[1]) == 30
    assert np.abs(np.subtract(*curves)).max() < 0.005


def test_reproduce_says_that_there_were_more_workers(database: Path) -> None:
    with open_step("featurize", FeaturizeParams()) as logger:
        featurize(FeaturizeParams(), logger)
    with open_cluster("none", 2) as cluster:
        address = cluster.client.scheduler.address
        params = TrainParams(engine="dask", scheduler_address=address, n_estimators=30)
        with open_step("train", params) as logger:
            train(params, logger)
        assert logger.client.get_run(logger.run_id).data.tags["n_workers"] == "2"
        cluster.client.retire_workers(cluster.workers()[:1])
        again = ReproduceParams(run_id=logger.run_id)
        with (
            pytest.raises(NotReproducedError, match=r"what differs: n_workers 2 -> 1$"),
            open_step("reproduce", again) as reproducing,
        ):
            reproduce(again, reproducing)
