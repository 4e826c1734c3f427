"""A feature snapshot: the table a model learns from, its manifest and its ID.

The ID is the MD5 of the manifest's canonical JSON. The manifest says what the features *are*: their
names and types, the label, the symbols and dates, and a SHA-256 of every value. It says nothing of
how, when or where they were made, so equal features have equal IDs on every machine.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.market.plain_text import is_symbol

DATE: Final = "date"
SYMBOL: Final = "symbol"
LABEL: Final = "direction"
LABEL_KNOWN_AT: Final = "label_known_at"
_FEATURE_DTYPE: Final = np.dtype("<f4")
NO_LABEL: Final = -1
"""Stands for a missing label where labels are plain numbers, as they are hashed."""
NO_DATE: Final = np.iinfo(np.int32).min
"""Likewise for a missing date."""

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


class Snapshot(ABC):
    """Features, labels and the manifest that names them, in memory or in a file.

    Attributes
    ----------
    table : DataFrame
        At least ``date``, ``symbol``, ``direction`` and ``label_known_at`` of every row, as in
        :attr:`FeatureSnapshot.table`.
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

    @abstractmethod
    def batches(self, rows: NDArray[np.intp]) -> Iterator[pd.DataFrame]:
        """Yield the features of some rows, batch by batch.

        Parameters
        ----------
        rows : ndarray of intp
            Positions in the table, ascending.

        Yields
        ------
        DataFrame, shape (some rows, n_features)
            All of them, one under the other, are the rows asked for; there may be one alone.
        """

    def features_of(self, rows: NDArray[np.intp]) -> pd.DataFrame:
        """Return the features of some rows: positions in the table, ascending."""
        found = list(self.batches(rows))
        if not found:
            return pd.DataFrame(columns=self.feature_names, dtype=_FEATURE_DTYPE)
        return found[0] if len(found) == 1 else pd.concat(found)

    def labels_of(self, rows: NDArray[np.intp]) -> pd.Series[Any]:
        """Return the labels of some rows: positions in the table."""
        return self.table[LABEL].iloc[rows]


@dataclass(frozen=True)
class FeatureSnapshot(Snapshot):
    """A snapshot in memory.

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

    def batches(self, rows: NDArray[np.intp]) -> Iterator[pd.DataFrame]:
        """Yield the features of some rows, all at once."""
        yield self.features.iloc[rows]

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
        verify_parts([describe_part(self.table)], self.manifest)


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


def verify_parts(parts: Iterable[TablePart], manifest: Manifest) -> None:
    """Compare a table, described part by part, with what its manifest says.

    Raises
    ------
    SnapshotError
        If a value, a date, a symbol or a column is not what the manifest vouches for. The message
        gives both hashes.
    """
    check_manifest(manifest)
    found = join_parts(
        parts,
        feature_set=manifest["feature_set"],
        version=manifest["version"],
        label=manifest["label"],
    )
    if found == manifest:
        return
    changed = sorted(k for k in found if found[k] != manifest.get(k))
    raise SnapshotError(
        f"snapshot {manifest_id(manifest)} does not verify: {', '.join(changed) or 'the manifest'} "
        f"differ; values hash to {found['values_sha256']}, the manifest says "
        f"{manifest.get('values_sha256')}. The stored table was changed after it was "
        "written: run featurize again"
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


@dataclass(frozen=True)
class TablePart:
    """What a manifest says of some whole symbols of a feature table.

    Attributes
    ----------
    feature_types : dict of str to str
        By name, in the order of the columns.
    row_count, labelled_row_count : int
    risen_row_count : int
        Rows with the label 1; no part of the manifest.
    first_date, last_date : str
    digests : tuple of (str, str)
        Every symbol, in sorted order, and the SHA-256 of its dates, features and labels.
    """

    feature_types: dict[str, str]
    row_count: int
    labelled_row_count: int
    risen_row_count: int
    first_date: str
    last_date: str
    digests: tuple[tuple[str, str], ...]


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
    parts = [describe_part(table)]
    return join_parts(parts, feature_set=feature_set, version=version, label=label)


def describe_part(table: pd.DataFrame) -> TablePart:
    """Describe and hash some whole symbols of a feature table.

    Hashing symbol by symbol is what lets several workers share the job: the parts combine to the
    same digest whoever computed them.

    Raises
    ------
    SnapshotError
        If the table is empty, unsorted, or holds another dtype or a value that is not finite.
    """
    names = [c for c in table.columns if c not in (DATE, SYMBOL, LABEL, LABEL_KNOWN_AT)]
    _check_form(table, names)
    dates = table[DATE]
    return TablePart(
        feature_types={name: str(table[name].dtype) for name in names},
        row_count=len(table),
        labelled_row_count=int(table[LABEL].notna().sum()),
        risen_row_count=int(table[LABEL].sum()),
        first_date=str(dates.min().date()),
        last_date=str(dates.max().date()),
        digests=tuple(symbol_digests(table, names)),
    )


def join_parts(
    parts: Iterable[TablePart], *, feature_set: str, version: str, label: Mapping[str, Any]
) -> Manifest:
    """Build the manifest of a feature table from what is known of its parts.

    Parameters
    ----------
    parts : iterable of TablePart
        In the order of the table, that of their symbols.
    feature_set, version, label
        As for :func:`describe_table`.

    Returns
    -------
    dict
        That of the whole table, however it was cut.

    Raises
    ------
    SnapshotError
        If there is none, they are not in order, a symbol is in two of them, or they differ in
        their features.
    """
    parts = list(parts)
    if not parts:
        _refuse_empty()
    first = parts[0]
    symbols = [symbol for part in parts for symbol, _ in part.digests]
    for before, symbol in pairwise(symbols):
        if before >= symbol:
            raise SnapshotError(f"the rows of {symbol} are out of order or in two places")
    for part in parts:
        if list(part.feature_types.items()) != list(first.feature_types.items()):
            raise SnapshotError("the parts of the table have other features than its first one")
    combined = hashlib.sha256()
    for part in parts:
        for symbol, digest in part.digests:
            combined.update(f"{symbol}\0{digest}\n".encode())
    return {
        "feature_count": len(first.feature_types),
        "feature_names": list(first.feature_types),
        "feature_types": dict(first.feature_types),
        "feature_set": feature_set,
        "version": version,
        "label": dict(label),
        "row_count": sum(part.row_count for part in parts),
        "labelled_row_count": sum(part.labelled_row_count for part in parts),
        "symbols": symbols,
        "first_date": min(part.first_date for part in parts),
        "last_date": max(part.last_date for part in parts),
        "values_sha256": combined.hexdigest(),
    }


def _refuse_empty() -> NoReturn:
    raise SnapshotError("a snapshot needs at least one row")


def _check_form(table: pd.DataFrame, names: list[str]) -> None:
    missing = {DATE, SYMBOL, LABEL, LABEL_KNOWN_AT} - set(table.columns)
    if missing or not names:
        raise SnapshotError(f"a snapshot needs {sorted(missing) or 'at least one feature'}")
    if table.empty:
        _refuse_empty()
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
    codes, days = _symbol_codes(table), days_since_1970(table[DATE])
    ordered = (np.diff(codes) > 0) | ((np.diff(codes) == 0) & (np.diff(days) > 0))
    if not ordered.all():
        row = int(np.argmin(ordered)) + 1
        raise SnapshotError(
            f"row {row} ({table[SYMBOL].iloc[row]}, {table[DATE].iloc[row].date()}) is out of "
            "order or double: sort by symbol, then date, one row each"
        )


def _symbol_codes(table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.intp]]:
    return np.asarray(pd.factorize(table[SYMBOL], sort=True)[0], dtype=np.intp)


def days_since_1970(dates: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Days since 1970-01-01; a missing date is the smallest int32."""
    days = dates.to_numpy("datetime64[D]")
    return np.where(np.isnat(days), NO_DATE, days.astype(np.int64)).astype("<i4")


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
    days, known_at = days_since_1970(table[DATE]), days_since_1970(table[LABEL_KNOWN_AT])
    direction = table[LABEL].to_numpy(dtype=np.int8, na_value=NO_LABEL)
    values = np.ascontiguousarray(table[names].to_numpy(dtype=_FEATURE_DTYPE))
    codes = _symbol_codes(table)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(table)], strict=True):
        digest = hashlib.sha256()
        for part in (days, values, direction, known_at):
            digest.update(part[start:stop].tobytes())
        yield str(table[SYMBOL].iloc[start]), digest.hexdigest()
