"""XGBoost trained by all workers of a dask cluster together, each with its share of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from steps.engines import ClusterError
from steps.engines.dask import Cluster
from steps.learning.boosting import Batched, OnRound, cut_to_best, read_history
from steps.learning.models import FittedModel, build_classifier, check_labels

if TYPE_CHECKING:
    from dask.array import Array
    from distributed import Client

OpenCluster = Callable[[], AbstractContextManager[Cluster]]

_TRIES: Final = 3
_SILENT_SECONDS: Final = 300
"""How long a worker waits for another, which may be that far behind; a round may take longer."""


def fit_on_cluster(
    open_cluster: OpenCluster,
    hyperparameters: Mapping[str, Any],
    train: Batched,
    validation: Batched,
    *,
    on_round: OnRound | None = None,
    tell: Callable[[str], None],
) -> tuple[FittedModel, int]:
    """Fit XGBoost on rows that are dealt out to the workers, batch by batch.

    Parameters
    ----------
    open_cluster : callable
        Returns the context of a `Cluster`; called again when a worker was lost. Each worker takes
        as many threads as dask gives it.
    hyperparameters : mapping
        As for `build_classifier`; `n_jobs` is not looked at.
    train, validation : Batched
        Finite features, 0 and 1 as labels.
    on_round : callable, optional
        Told of all rounds at the end. An AUC is the mean of the workers', each over its own rows.
    tell : callable
        Told, in a line, when a worker was lost and training starts again.

    Returns
    -------
    model : FittedModel
        An ordinary booster. Of one worker it is the model of `fit_booster` to the bit; of several,
        always the same one, which differs as another `random_state` does: each samples among its
        own rows, and bins come of quantiles put together from the workers'.
    n_workers : int
        How many they were, which decides the model.

    Raises
    ------
    ValueError
        If labels are other than 0 and 1, missing, or all the same.
    ClusterError
        If the scheduler lacks XGBoost, workers were lost in each of three tries, or they do not
        hear from each other.
    """
    model = build_classifier("xgboost", **{**hyperparameters, "n_jobs": 0})
    for window, name in ((train, "train"), (validation, "validation")):
        check_labels(window.y, name)
    found, n_workers = _learn_in_tries(open_cluster, model, train, validation, tell=tell)
    history = read_history(found["history"])
    if on_round is not None:
        for number, scores in enumerate(zip(*history.values(), strict=True)):
            on_round(number, dict(zip(history, scores, strict=True)))
    booster = found["booster"]
    booster.set_param({"nthread": 0})  # it asks for as many as its worker had
    kept = cut_to_best(booster, model.early_stopping_rounds)
    return FittedModel("xgboost", *kept, history), n_workers


def _learn_in_tries(
    open_cluster: OpenCluster, *what: Any, tell: Callable[[str], None]
) -> tuple[Any, int]:
    """Train; where a worker is lost, which ends it for all of them, again with those left.

    Return what was learned, and by how many.
    """
    tries = 0
    while True:
        tries += 1
        with open_cluster() as cluster:
            workers = cluster.workers()
            cluster.check_scheduler()
            try:
                return _learn(cluster, workers, *what), len(workers)
            except Exception as error:  # a lost worker has many faces
                lost = cluster.lost(workers)
                if not lost and "/collective/" in str(error):
                    raise ClusterError(
                        f"the workers did not hear from each other for {_SILENT_SECONDS} seconds: "
                        "are they busy with other work, or cut off from each other?"
                    ) from error
                if not lost:
                    raise
                if tries == _TRIES:
                    raise ClusterError(
                        f"workers were lost in each of {_TRIES} tries to train: memory may be "
                        "short there (dask worker --memory-limit)"
                    ) from error
        tell(
            f"warning: {len(lost)} of {len(workers)} workers lost while training: starting again "
            "with those that are there"
        )


def _learn(
    cluster: Cluster, workers: Sequence[str], model: Any, train: Batched, validation: Batched
) -> Any:
    """Return the booster of all rounds and its scores, as `xgboost.dask` does."""
    client = cluster.client
    names = list(next(train.batches()).columns)
    learned, watched = (_deal_out(client, workers, window) for window in (train, validation))
    meeting_point = _meeting_point(client)

    async def train_there() -> Any:
        from xgboost import dask as xgboost_dask
        from xgboost.collective import Config

        kinds = {"feature_names": names, "feature_types": ["float"] * len(names)}
        with client.as_current():  # without one, XGBoost does not even look at the one given
            X = await xgboost_dask.DaskQuantileDMatrix(client, *learned, **kinds)
            X_validation = await xgboost_dask.DaskQuantileDMatrix(client, *watched, ref=X, **kinds)
            return await xgboost_dask.train(
                client,
                model.get_xgb_params(),
                X,
                model.get_num_boosting_rounds(),
                evals=[(X, "train"), (X_validation, "validation")],
                early_stopping_rounds=model.early_stopping_rounds,
                verbose_eval=False,
                coll_cfg=Config(timeout=_SILENT_SECONDS, tracker_host_ip=meeting_point),
            )

    return cluster.wait_for(train_there, workers)


def _meeting_point(client: Client) -> str | None:
    """Return the host where XGBoost brings the workers together, unless it finds one by itself.

    It would find one that others can reach, also for a cluster that nobody else should.
    """
    from distributed.comm import get_address_host

    host = str(get_address_host(client.scheduler_info()["address"]))
    return host if host.startswith("127.") else None


def _deal_out(client: Client, workers: Sequence[str], window: Batched) -> tuple[Array, Array]:
    """Send each worker its share of every batch, and return all features and labels from there."""
    import dask.array as da

    X: list[Array] = []
    y: list[Array] = []
    rows = 0
    for batch in window.batches():
        labels = window.y[rows : rows + len(batch)]
        rows += len(batch)
        shares = (np.array_split(values, len(workers)) for values in (batch.to_numpy(), labels))
        for worker, *share in zip(workers, *shares, strict=True):
            if not len(share[0]):
                continue
            # Without a hash: equal labels of two workers would be one thing, in one place.
            sent = client.scatter(
                [np.ascontiguousarray(values) for values in share], workers=[worker], hash=False
            )
            for arrays, values, there in zip((X, y), share, sent, strict=True):
                arrays.append(da.from_delayed(there, values.shape, values.dtype))
    return da.concatenate(X), da.concatenate(y)
