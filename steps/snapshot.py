"""Look at feature snapshots: ``show`` one, ``compare`` two. Makes no run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from steps.command import command, say
from steps.learning.drift import population_stability_index
from steps.market.comparison import SnapshotComparison, compare_snapshots
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.snapshot_store import LATEST, load_provenance, load_snapshot, resolve_snapshot
from steps.tracking.stores import look_up
from steps.tracking.values import json_text

_NOTABLE_PSI = 0.1  # Siddiqi's rule of thumb: below it nothing moved, above 0.25 a lot did
_SHOWN = 10


def show(experiment: str | None, snapshot_id: str) -> None:
    """Print a snapshot's manifest, verified, and how it was made."""
    client, experiment_id = look_up(experiment)
    stored = resolve_snapshot(client, experiment_id, snapshot_id)
    snapshot = load_snapshot(stored)
    say(
        json_text(
            {
                "feature_snapshot_id": stored.snapshot_id,
                "verified": True,
                "run_id": stored.run_id,
                "artifact_uri": stored.artifact_uri,
                "manifest": snapshot.manifest,
                "provenance": load_provenance(stored),
            }
        ).rstrip()
    )


def compare(experiment: str | None, first: str, second: str) -> None:
    """Print what differs between two snapshots, both verified."""
    client, experiment_id = look_up(experiment)
    a, b = (
        load_snapshot(resolve_snapshot(client, experiment_id, name)) for name in (first, second)
    )
    say(f"a = {a.snapshot_id}\nb = {b.snapshot_id}")
    if a.snapshot_id == b.snapshot_id:
        say("the same snapshot: every feature, label, symbol, date and value is equal")
        return
    say(describe(compare_snapshots(a, b)))
    shift = distribution_shift(a, b)
    moved = shift[shift > 0]
    say(f"population stability index, a to b (above {_NOTABLE_PSI}: look closer):")
    say(moved.to_string(float_format="{:.4f}".format) if len(moved) else "0 for every feature")


def distribution_shift(a: FeatureSnapshot, b: FeatureSnapshot) -> pd.Series[float]:
    """Return the population stability index of each feature both have, the largest first."""
    shared = [name for name in a.feature_names if name in b.feature_names]
    index = {name: population_stability_index(a.table[name], b.table[name]) for name in shared}
    return pd.Series(index, dtype=float, name="psi").sort_values(ascending=False)


def describe(found: SnapshotComparison) -> str:
    """Put a comparison into words."""
    lines = [f"{name}: {was} in a, {now} in b" for name, (was, now) in found.manifest.items()]
    for what, names in (
        ("features only in b", found.features_added),
        ("features only in a", found.features_removed),
        ("symbols only in b", found.symbols_added),
        ("symbols only in a", found.symbols_removed),
    ):
        if names:
            lines.append(f"{what}: {', '.join(names)}")
    for what, rows in (
        ("rows only in b", found.rows_added),
        ("rows only in a", found.rows_removed),
    ):
        if len(rows):
            lines.append(f"{what}: {len(rows)}, {_some_rows(rows)}")
    lines.append(f"rows in both: {found.common_rows}")
    if found.changes.empty:
        lines.append("values in both: all equal")
    else:
        lines.append("values in both that differ:")
        lines.append(found.changes.to_string())
    return "\n".join(lines)


def _some_rows(rows: pd.DataFrame) -> str:
    by_symbol = rows.groupby("symbol")["date"].agg(["count", "min", "max"])
    shown = [
        f"{symbol} {count} ({first.date()} to {last.date()})"
        for symbol, count, first, last in by_symbol.head(_SHOWN).itertuples()
    ]
    more = len(by_symbol) - len(shown)
    return ", ".join(shown) + (f" and {more} more symbols" if more else "")


def main(arguments: Sequence[str]) -> None:
    """Be the command."""
    parser = argparse.ArgumentParser(prog="python -m steps.snapshot", description=__doc__)
    parser.add_argument("--experiment_name", help="where to look; default: in all")
    commands = parser.add_subparsers(dest="command", required=True)
    showing = commands.add_parser("show", help="print the manifest of a snapshot")
    showing.add_argument("snapshot_id", nargs="?", default=LATEST)
    comparing = commands.add_parser("compare", help="print what differs between two snapshots")
    comparing.add_argument("first")
    comparing.add_argument("second")
    given = parser.parse_args(arguments)
    with command("snapshot", Exception):
        if given.command == "show":
            show(given.experiment_name, given.snapshot_id)
        else:
            compare(given.experiment_name, given.first, given.second)


if __name__ == "__main__":
    main(sys.argv[1:])
