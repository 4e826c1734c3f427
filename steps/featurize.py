"""featurize: prices in, a feature snapshot with an ID out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from math import nan
from typing import Any, Final, Literal

import pandas as pd
from pydantic import Field

from steps.command import say
from steps.engines.dask import open_cluster
from steps.engines.local import map_in_order
from steps.entry_point import StepParams, run_step
from steps.learning.leaks import alarm, features_look_ahead
from steps.market.build import build_part, feature_key, ingredients, own_code
from steps.market.features import get_feature_set
from steps.market.labels import label_definition
from steps.market.lookahead import find_lookahead
from steps.market.price_files import without_secrets
from steps.market.price_stream import PricePiece, PriceStream, open_price_stream
from steps.market.prices import SAMPLE, open_prices
from steps.market.snapshot import Manifest, TablePart, join_parts
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_store import (
    StoredSnapshot,
    draft_snapshot,
    find_by_key,
    snapshot_dataset,
)

_PIECE_ROWS: Final = 100_000
_MANY_ROWS: Final = 3_000_000
"""Rows from which on other processes are worth the second that each takes to start."""
_SUSPECTS: Final = 20
"""Symbols that are searched for features that look ahead: this bounds the cost."""


class EngineParams(StepParams):
    """Who does the work."""

    engine: Literal["local", "dask"] = Field(
        "local", description="'local': this machine; 'dask': the workers of a cluster"
    )
    scheduler_address: str = Field(
        "none", description="dask: tcp://… of a scheduler; 'none': n_jobs processes on this machine"
    )


class FeaturizeParams(EngineParams):
    """Make a feature snapshot from daily prices."""

    prices: str = Field(SAMPLE, description="'sample', or a file, folder, glob or URL")
    feature_set: str = Field("core", description="which declared set of features")
    horizon: int = Field(1, ge=1, le=250, description="trading days the label looks ahead")
    n_jobs: int = Field(0, ge=0, description="processes for large prices; 0: every core")


def featurize(params: FeaturizeParams, logger: MLflowLogger) -> StoredSnapshot:
    """Load prices, compute features and labels, store their snapshot with this run."""
    feature_set = get_feature_set(params.feature_set)
    with (
        open_prices(params.prices) as files,
        open_price_stream(files) as prices,
        draft_snapshot() as draft,
    ):
        made_from = ingredients(files.fingerprint(), feature_set, params.horizon)
        dropped = prices.too_short(feature_set.min_rows)
        if dropped:
            few = ", ".join(f"{symbol} ({rows})" for symbol, rows in dropped.items())
            say(f"warning: left out, fewer than the {feature_set.min_rows} rows needed: {few}")
        suspects = prices.spread(_SUSPECTS, min_rows=feature_set.min_rows + 1)
        lookahead = [found.describe() for found in find_lookahead(suspects, feature_set)]
        suspicions = features_look_ahead({"lookahead": lookahead})
        for suspicion in suspicions:
            say(alarm([suspicion]))

        parts = []
        for table, part in _build(prices, params):
            draft.write(table)
            parts.append(part)
        manifest = join_parts(
            parts,
            feature_set=feature_set.name,
            version=feature_set.version,
            label=label_definition(params.horizon),
        )
        provenance = {
            **made_from,
            "prices": without_secrets(params.prices),
            "dropped_symbols": dropped,
            "lookahead": lookahead,
            "git_commit": logger.git_commit,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        stored = draft.save(logger, manifest, provenance, feature_key(made_from), own_code())
    logger.set_tags(leak_alarm=alarm(suspicions))
    logger.log_dataset(snapshot_dataset(stored, manifest))
    logger.log_dataset_stats(_stats(manifest, parts))
    say(
        f"feature snapshot {stored.snapshot_id}: {manifest['row_count']} rows, "
        f"{manifest['feature_count']} features, {manifest['first_date']} to "
        f"{manifest['last_date']}"
    )
    return stored


def _build(
    prices: PriceStream, params: FeaturizeParams
) -> Iterator[tuple[pd.DataFrame, TablePart]]:
    """Compute the features of all symbols, some after the other."""
    feature_set = get_feature_set(params.feature_set)
    pieces = prices.pieces(_PIECE_ROWS, min_rows=feature_set.min_rows)
    build = partial(build_part, feature_set=params.feature_set, horizon=params.horizon)
    if params.engine == "dask":
        return _build_on_cluster(build, pieces, params)
    n_jobs = 1 if prices.rows < _MANY_ROWS else params.n_jobs
    return map_in_order(build, pieces, n_jobs=n_jobs)


def _build_on_cluster(
    build: Callable[[pd.DataFrame], tuple[pd.DataFrame, TablePart]],
    pieces: Sequence[PricePiece],
    params: FeaturizeParams,
) -> Iterator[tuple[pd.DataFrame, TablePart]]:
    """Compute the features on dask's workers, which may not share a disk: prices are sent."""
    with open_cluster(params.scheduler_address, params.n_jobs) as cluster:
        yield from cluster.map_in_order(build, (piece.read() for piece in pieces))


def find_reusable(params: FeaturizeParams, logger: MLflowLogger) -> StoredSnapshot | None:
    """Return the snapshot that `featurize` would make again, if it is there and verifies."""
    feature_set = get_feature_set(params.feature_set)
    with open_prices(params.prices) as files:
        made_from = ingredients(files.fingerprint(), feature_set, params.horizon)
    return find_by_key(logger.client, logger.experiment_id, feature_key(made_from))


def _stats(manifest: Manifest, parts: Sequence[TablePart]) -> dict[str, Any]:
    labelled = manifest["labelled_row_count"]
    risen = sum(part.risen_row_count for part in parts)
    return {
        "row_count": manifest["row_count"],
        "labelled_row_count": labelled,
        "feature_count": manifest["feature_count"],
        "symbol_count": len(manifest["symbols"]),
        "target_mean": risen / labelled if labelled else nan,
    }


if __name__ == "__main__":
    run_step("featurize", featurize, FeaturizeParams)
