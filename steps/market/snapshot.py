"""A feature snapshot: the table a model learns from, its manifest and its ID.

The ID is the MD5 of the manifest's canonical JSON. The manifest says what the features *are*: their
names and types, the label, the symbols and dates, and a SHA-256 of every value. It says nothing of
how, when or where they were made, so equal features have equal IDs on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from steps.market.plain_text import is_symbol

DATE: Final = "date"
SYMBOL: Final = "symbol"
LABEL: Final = "direction"
LABEL_KNOWN_AT: Final = "label_known_at"
_FEATURE_DTYPE: Final = np.dtype("<f4")
_NO_LABEL: Final = -1
_NO_DATE: Final = np.iinfo(np.int32).min

_KINDS: Final[dict[str, type]] = {
    "feature_names": list,
    "feature_set": str,
    "version": str,
    "row_count": int,
    "symbols": list,
    "first_date": str,
    "last_date": str,
    "values_sha256": str,
    "label": dict,
}

Manifest = dict[str, Any]


class SnapshotError(ValueError):
    """A snapshot is malformed, or its values are not the ones its manifest vouches for."""


def manifest_id(manifest: Mapping[str, Any]) -> str:
    """Return the MD5 of a manifest's canonical JSON: the feature snapshot ID.

    Parameters
    ----------
    manifest : mapping
        Anything ``json.dumps`` accepts.

    Returns
    -------
    str
        32 hexadecimal digits.

    Examples
    --------
    >>> manifest_id({"feature_count": 2, "feature_names": ["rsi_14", "month"]})
    '797462c996088aa586ea6b1f579a5b36'
    """
    canonical = json.dumps(manifest, sort_keys=True)
    return hashlib.md5(canonical.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class FeatureSnapshot:
    """Features, labels and the manifest that names them.

    Attributes
    ----------
    table : DataFrame, shape (n_rows, n_features + 4)
        ``date``, ``symbol``, the features (float32, finite), ``direction`` (Int8, missing where the
        label is not known yet) and ``label_known_at``; sorted by symbol, then date.
    manifest : dict
        What the features are, JSON-able. See :func:`describe_table`.
    """

    table: pd.DataFrame
    manifest: Manifest

    @property
    def snapshot_id(self) -> str:
        """The MD5 of the manifest."""
        return manifest_id(self.manifest)

    @property
    def feature_names(self) -> list[str]:
        """The features in the order a model receives them."""
        return list(self.manifest["feature_names"])

    @property
    def horizon(self) -> int:
        """Trading days from a row to the date its label looks at."""
        return int(self.manifest["label"]["horizon"])

    @property
    def features(self) -> pd.DataFrame:
        """The model's input, shape (n_rows, n_features)."""
        return self.table[self.feature_names]

    def verify(self) -> None:
        """Hash every value again and compare with the manifest.

        Raises
        ------
        SnapshotError
            If a value, a date, a symbol or a column is not what the manifest vouches for. The
            message gives both hashes.
        """
        check_manifest(self.manifest)
        found = describe_table(
            self.table,
            feature_set=self.manifest["feature_set"],
            version=self.manifest["version"],
            label=self.manifest["label"],
        )
        if found == self.manifest:
            return
        changed = sorted(k for k in found if found[k] != self.manifest.get(k))
        raise SnapshotError(
            f"snapshot {self.snapshot_id} does not verify: {', '.join(changed) or 'the manifest'} "
            f"differ; values hash to {found['values_sha256']}, the manifest says "
            f"{self.manifest.get('values_sha256')}. The stored table was changed after it was "
            "written: run featurize again"
        )


def check_manifest(manifest: Any) -> None:
    """Make sure that what the steps read in a manifest is there and of its kind.

    Whether it is true, :meth:`FeatureSnapshot.verify` finds out.

    Raises
    ------
    SnapshotError
        If it is not; the message names the first entry.
    """
    if not isinstance(manifest, dict):
        raise SnapshotError(
            f"the manifest is a {type(manifest).__name__}, expected an object: it was not written "
            "by featurize; run featurize again"
        )
    for name, kind in _KINDS.items():
        value: Any = manifest.get(name)
        fits = type(value) is kind
        if fits and kind is list:
            fits = all(isinstance(each, str) and is_symbol(each) for each in value)
        if fits and name == "label":
            fits = type(value.get("horizon")) is int
        if not fits:
            raise SnapshotError(
                f"the manifest's entry {name} is missing or of another kind than expected: it was "
                "not written by featurize; run featurize again"
            )


def make_snapshot(
    table: pd.DataFrame, *, feature_set: str, version: str, label: Mapping[str, Any]
) -> FeatureSnapshot:
    """Describe a feature table and bind the description to it.

    Parameters
    ----------
    table : DataFrame
        As :attr:`FeatureSnapshot.table`.
    feature_set, version : str
        Name and version of the feature set that was computed.
    label : mapping
        Name, definition and horizon of the label.

    Returns
    -------
    FeatureSnapshot

    Raises
    ------
    SnapshotError
        If the table is not in canonical form.
    """
    manifest = describe_table(table, feature_set=feature_set, version=version, label=label)
    return FeatureSnapshot(table, manifest)


def describe_table(
    table: pd.DataFrame, *, feature_set: str, version: str, label: Mapping[str, Any]
) -> Manifest:
    """Build the manifest of a feature table.

    Parameters
    ----------
    table : DataFrame
        As :attr:`FeatureSnapshot.table`.
    feature_set, version : str
        Name and version of the feature set.
    label : mapping
        Name, definition and horizon of the label.

    Returns
    -------
    dict
        ``feature_count``, ``feature_names``, ``feature_types``, ``feature_set``, ``version``,
        ``label``, ``row_count``, ``labelled_row_count``, ``symbols``, ``first_date``,
        ``last_date`` and ``values_sha256``.

    Raises
    ------
    SnapshotError
        If the table is empty, unsorted, or holds another dtype or a value that is not finite.
    """
    names = [c for c in table.columns if c not in (DATE, SYMBOL, LABEL, LABEL_KNOWN_AT)]
    _check_form(table, names)
    dates = table[DATE]
    return {
        "feature_count": len(names),
        "feature_names": names,
        "feature_types": {name: str(table[name].dtype) for name in names},
        "feature_set": feature_set,
        "version": version,
        "label": dict(label),
        "row_count": len(table),
        "labelled_row_count": int(table[LABEL].notna().sum()),
        "symbols": sorted(table[SYMBOL].unique().tolist()),
        "first_date": str(dates.min().date()),
        "last_date": str(dates.max().date()),
        "values_sha256": _hash_values(table, names),
    }


def _check_form(table: pd.DataFrame, names: list[str]) -> None:
    missing = {DATE, SYMBOL, LABEL, LABEL_KNOWN_AT} - set(table.columns)
    if missing or not names:
        raise SnapshotError(f"a snapshot needs {sorted(missing) or 'at least one feature'}")
    if table.empty:
        raise SnapshotError("a snapshot needs at least one row")
    for name in names:
        if table[name].dtype != _FEATURE_DTYPE:
            raise SnapshotError(f"feature {name} is {table[name].dtype}, expected float32")
    finite = np.isfinite(table[names].to_numpy())
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        at = table.iloc[row]
        raise SnapshotError(
            f"feature {names[column]} is {table[names[column]].iloc[row]} for {at[SYMBOL]} on "
            f"{at[DATE].date()}, expected a finite number"
        )
    codes, days = _symbol_codes(table), _days(table[DATE])
    ordered = (np.diff(codes) > 0) | ((np.diff(codes) == 0) & (np.diff(days) > 0))
    if not ordered.all():
        row = int(np.argmin(ordered)) + 1
        raise SnapshotError(
            f"row {row} ({table[SYMBOL].iloc[row]}, {table[DATE].iloc[row].date()}) is out of "
            "order or double: sort by symbol, then date, one row each"
        )


def _symbol_codes(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.intp]]:
    return np.asarray(pd.factorize(table[SYMBOL], sort=True)[0], dtype=np.intp)


def _days(dates: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Days since 1970-01-01; a missing date is the smallest int32."""
    days = dates.to_numpy("datetime64[D]")
    return np.where(np.isnat(days), _NO_DATE, days.astype(np.int64)).astype("<i4")


def _hash_values(table: pd.DataFrame, names: list[str]) -> str:
    """SHA-256 over the symbols in sorted order, each with a SHA-256 of its rows.

    Hashing symbol by symbol is what lets several workers share the job: the parts combine to the
    same digest whoever computed them.
    """
    combined = hashlib.sha256()
    for symbol, digest in symbol_digests(table, names):
        combined.update(f"{symbol}\0{digest}\n".encode())
    return combined.hexdigest()


def symbol_digests(table: pd.DataFrame, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield every symbol with the SHA-256 of its dates, features and labels.

    Parameters
    ----------
    table : DataFrame
        Sorted by symbol, then date.
    names : list of str
        The features, in the manifest's order.

    Yields
    ------
    tuple of str
        Symbol and hexadecimal digest, in sorted order of the symbols.
    """
    days, known_at = _days(table[DATE]), _days(table[LABEL_KNOWN_AT])
    direction = table[LABEL].to_numpy(dtype=np.int8, na_value=_NO_LABEL)
    values = np.ascontiguousarray(table[names].to_numpy(dtype=_FEATURE_DTYPE))
    codes = _symbol_codes(table)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(table)], strict=True):
        digest = hashlib.sha256()
        for part in (days, values, direction, known_at):
            digest.update(part[start:stop].tobytes())
        yield str(table[SYMBOL].iloc[start]), digest.hexdigest()
