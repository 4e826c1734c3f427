"""A stored snapshot's table that stays in its file: features are read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from steps.market.snapshot import (
    DATE,
    LABEL,
    LABEL_KNOWN_AT,
    NO_DATE,
    NO_LABEL,
    SYMBOL,
    Manifest,
    Snapshot,
    days_since_1970,
    describe_part,
    verify_parts,
)
from steps.tracking.snapshot_table import bounded_batches, from_arrow

_PART_ROWS: Final = 50_000


class SnapshotFile(Snapshot):
    """A snapshot whose features are in a Parquet file, verified when it is opened.

    Parameters
    ----------
    path : Path
        Must stay as it is while this is in use.
    manifest : dict
        See :func:`steps.market.snapshot.check_manifest`.

    Raises
    ------
    ValueError
        If the file is none of a feature table, or of another than the manifest tells of.
    SnapshotError
        If a value is not what the manifest vouches for.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._path = path
        verify_parts(map(describe_part, self._read()), manifest)

    def _read(self) -> Iterator[pd.DataFrame]:
        """Yield the whole table, some symbols after the other, and remember its narrow columns."""
        symbols = pd.Index(self.manifest["symbols"])
        start = 0
        for rows in _whole_symbols(bounded_batches(self._path, self.manifest)):
            if not start:
                self._make_room(self.manifest["row_count"])
            table = from_arrow(rows)
            part = slice(start, start + len(table))
            self._day[part] = days_since_1970(table[DATE])
            self._known_on[part] = days_since_1970(table[LABEL_KNOWN_AT])
            self._direction[part] = table[LABEL].to_numpy(np.int8, na_value=NO_LABEL)
            self._symbol[part] = symbols.get_indexer(pd.Index(table[SYMBOL]))
            start = part.stop
            yield table

    def _make_room(self, rows: int) -> None:
        # Half of what pandas takes for them, which counts where there are a hundred million.
        code = np.int16 if len(self.manifest["symbols"]) < 2**15 else np.int32
        try:
            self._day = np.empty(rows, np.int32)
            self._known_on = np.empty(rows, np.int32)
            self._direction = np.empty(rows, np.int8)
            self._symbol: NDArray[np.integer[Any]] = np.empty(rows, code)
        except (MemoryError, ValueError) as error:
            raise ValueError(f"it says that it has {rows:,} rows: {error}") from error

    @property
    def table(self) -> pd.DataFrame:  # type: ignore[override]  # nobody writes to it
        """Date, symbol (categorical), direction and `label_known_at`, shape (n_rows, 4)."""
        return pd.DataFrame(
            {
                DATE: _dates(self._day),
                SYMBOL: pd.Categorical.from_codes(self._symbol, self.manifest["symbols"]),
                LABEL: _labels(self._direction),
                LABEL_KNOWN_AT: _dates(self._known_on),
            },
            copy=False,
        )

    def labels_of(self, rows: NDArray[np.intp]) -> pd.Series[Any]:
        """Return the labels of some rows: positions in the table."""
        return pd.Series(_labels(self._direction[rows]), index=rows, name=LABEL)

    def batches(self, rows: NDArray[np.intp]) -> Iterator[pd.DataFrame]:
        """Yield the features of some rows, one row group of the file after the other."""
        rows = np.asarray(rows, dtype=np.intp)
        start = 0
        with pq.ParquetFile(self._path, pre_buffer=False) as file:
            for number in range(file.num_row_groups):
                stop = start + file.metadata.row_group(number).num_rows
                first, last = np.searchsorted(rows, (start, stop))
                if first < last:
                    group = file.read_row_group(number, columns=self.feature_names)
                    chosen = rows[first:last] - start
                    yield _frame(group, chosen, self.feature_names).set_axis(rows[first:last])
                start = stop


def _dates(days: NDArray[np.int32]) -> NDArray[np.datetime64]:
    dates = days.astype("datetime64[D]").astype("datetime64[s]")
    dates[days == NO_DATE] = np.datetime64("NaT")
    return dates


def _labels(values: NDArray[np.int8]) -> pd.arrays.IntegerArray:
    return pd.arrays.IntegerArray(np.maximum(values, 0), values == NO_LABEL)


def _frame(group: pa.Table, rows: NDArray[np.intp], names: list[str]) -> pd.DataFrame:
    """Return some rows of a row group, with one row of memory per feature as featurize has them."""
    values = np.empty((len(names), len(rows)), dtype=np.float32)
    for row, name in zip(values, names, strict=True):
        np.take(group[name].to_numpy(), rows, out=row)
    return pd.DataFrame(values.T, columns=names, copy=False)


def _whole_symbols(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Cut batches anew, between symbols."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows < _PART_ROWS:
            continue
        symbols = batch.column(SYMBOL).cast(pa.string())
        changes = np.flatnonzero(
            pc.not_equal(symbols[1:], symbols[:-1]).to_numpy(zero_copy_only=False)
        )
        if changes.size:
            end = int(changes[-1]) + 1
            held[-1] = batch.slice(0, end)
            yield pa.Table.from_batches(held)
            held, rows = [batch.slice(end)], batch.num_rows - end
    yield pa.Table.from_batches(held)
