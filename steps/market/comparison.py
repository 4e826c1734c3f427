"""What differs between two feature snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steps.market.snapshot import DATE, LABEL, LABEL_KNOWN_AT, SYMBOL, FeatureSnapshot

_KEY = [SYMBOL, DATE]


@dataclass(frozen=True)
class SnapshotComparison:
    """The differences between snapshot `a` and snapshot `b`.

    Attributes
    ----------
    manifest : dict of str to tuple
        Entries of the manifests that differ, as (in a, in b); names and hashes left out.
    features_added, features_removed : list of str
        Features in b only, in a only.
    symbols_added, symbols_removed : list of str
        Symbols in b only, in a only.
    rows_added, rows_removed : DataFrame
        `symbol` and `date` of the rows in b only, in a only.
    common_rows : int
        Rows both have.
    changes : DataFrame
        One row per column that both have and that differs on common rows: `changed` (how many
        values), `symbols`, `first_date`, `last_date`, `largest` (biggest absolute difference; NaN
        for dates). Indexed by column.
    """

    manifest: dict[str, tuple[Any, Any]]
    features_added: list[str]
    features_removed: list[str]
    symbols_added: list[str]
    symbols_removed: list[str]
    rows_added: pd.DataFrame
    rows_removed: pd.DataFrame
    common_rows: int
    changes: pd.DataFrame

    @property
    def common_features_changed(self) -> list[str]:
        """Features both have, with different values on common rows."""
        return [name for name in self.changes.index if name not in (LABEL, LABEL_KNOWN_AT)]


def compare_snapshots(a: FeatureSnapshot, b: FeatureSnapshot) -> SnapshotComparison:
    """Compare two snapshots, row by row and value by value.

    Parameters
    ----------
    a, b : FeatureSnapshot
        The earlier and the later one, say.

    Returns
    -------
    SnapshotComparison
    """
    names_a, names_b = a.feature_names, b.feature_names
    shared = [name for name in names_a if name in names_b] + [LABEL, LABEL_KNOWN_AT]
    both = a.table[_KEY + shared].merge(
        b.table[_KEY + shared], how="outer", on=_KEY, suffixes=("_a", "_b"), indicator=True
    )
    common = both[both["_merge"] == "both"]
    symbols_a, symbols_b = a.manifest["symbols"], b.manifest["symbols"]
    return SnapshotComparison(
        manifest={
            key: (a.manifest.get(key), b.manifest.get(key))
            for key in ("feature_set", "version", "label", "row_count", "first_date", "last_date")
            if a.manifest.get(key) != b.manifest.get(key)
        },
        features_added=[name for name in names_b if name not in names_a],
        features_removed=[name for name in names_a if name not in names_b],
        symbols_added=[name for name in symbols_b if name not in symbols_a],
        symbols_removed=[name for name in symbols_a if name not in symbols_b],
        rows_added=both.loc[both["_merge"] == "right_only", _KEY],
        rows_removed=both.loc[both["_merge"] == "left_only", _KEY],
        common_rows=len(common),
        changes=_changes(common, shared),
    )


def _changes(common: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    rows = {}
    for name in columns:
        left, right = common[f"{name}_a"], common[f"{name}_b"]
        known = (left.notna() & right.notna()).to_numpy()
        unequal = (left != right).to_numpy(bool, na_value=False)
        differs = (left.isna() != right.isna()).to_numpy() | (known & unequal)
        if not differs.any():
            continue
        where = common.loc[differs, _KEY]
        rows[name] = {
            "changed": int(differs.sum()),
            "symbols": where[SYMBOL].nunique(),
            "first_date": where[DATE].min().date(),
            "last_date": where[DATE].max().date(),
            "largest": _largest_difference(left[differs], right[differs]),
        }
    columns_out = ["changed", "symbols", "first_date", "last_date", "largest"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns_out)


def _largest_difference(left: pd.Series[Any], right: pd.Series[Any]) -> float:
    if pd.api.types.is_datetime64_any_dtype(left):
        return float("nan")
    difference = np.abs(
        left.to_numpy(np.float64, na_value=np.nan) - right.to_numpy(np.float64, na_value=np.nan)
    )
    return float(np.nanmax(difference)) if not np.isnan(difference).all() else float("nan")
