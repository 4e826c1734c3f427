"""featurize: prices in, a feature snapshot with an ID out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from steps.entry_point import StepParams, run_step, say
from steps.learning.leaks import alarm, features_look_ahead
from steps.market.build import build_snapshot, feature_key, ingredients, own_code
from steps.market.features import get_feature_set
from steps.market.lookahead import find_lookahead
from steps.market.price_files import without_secrets
from steps.market.prices import SAMPLE, open_prices, read_prices
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_store import (
    StoredSnapshot,
    find_by_key,
    save_snapshot,
    snapshot_dataset,
)


class FeaturizeParams(StepParams):
    """Make a feature snapshot from daily prices."""

    prices: str = Field(SAMPLE, description="'sample', or a file, folder, glob or URL")
    feature_set: str = Field("core", description="which declared set of features")
    horizon: int = Field(1, ge=1, le=250, description="trading days the label looks ahead")


def featurize(params: FeaturizeParams, logger: MLflowLogger) -> StoredSnapshot:
    """Load prices, compute features and labels, store their snapshot with this run."""
    feature_set = get_feature_set(params.feature_set)
    with open_prices(params.prices) as files:
        made_from = ingredients(files.fingerprint(), feature_set, params.horizon)
        prices = read_prices(files, min_rows=feature_set.min_rows)
    if prices.dropped:
        few = ", ".join(f"{symbol} ({rows})" for symbol, rows in prices.dropped.items())
        say(f"warning: left out, fewer than the {feature_set.min_rows} rows needed: {few}")
    lookahead = [found.describe() for found in find_lookahead(prices.table, feature_set)]
    suspicions = features_look_ahead({"lookahead": lookahead})
    for suspicion in suspicions:
        say(alarm([suspicion]))

    snapshot = build_snapshot(prices.table, feature_set, params.horizon)
    provenance = {
        **made_from,
        "prices": without_secrets(params.prices),
        "dropped_symbols": dict(prices.dropped),
        "lookahead": lookahead,
        "git_commit": logger.git_commit,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    stored = save_snapshot(logger, snapshot, provenance, feature_key(made_from), own_code())
    logger.set_tags(leak_alarm=alarm(suspicions))
    logger.log_dataset(snapshot_dataset(stored, snapshot.manifest))
    logger.log_dataset_stats(_stats(snapshot))
    say(
        f"feature snapshot {stored.snapshot_id}: {len(snapshot.table)} rows, "
        f"{len(snapshot.feature_names)} features, {snapshot.manifest['first_date']} to "
        f"{snapshot.manifest['last_date']}"
    )
    return stored


def find_reusable(params: FeaturizeParams, logger: MLflowLogger) -> StoredSnapshot | None:
    """Return the snapshot that `featurize` would make again, if it is there and verifies."""
    feature_set = get_feature_set(params.feature_set)
    with open_prices(params.prices) as files:
        made_from = ingredients(files.fingerprint(), feature_set, params.horizon)
    return find_by_key(logger.client, logger.experiment_id, feature_key(made_from))


def _stats(snapshot: FeatureSnapshot) -> dict[str, Any]:
    manifest = snapshot.manifest
    return {
        "row_count": manifest["row_count"],
        "labelled_row_count": manifest["labelled_row_count"],
        "feature_count": manifest["feature_count"],
        "symbol_count": len(manifest["symbols"]),
        "target_mean": float(snapshot.table["direction"].mean()),
    }


if __name__ == "__main__":
    run_step("featurize", featurize, FeaturizeParams)
