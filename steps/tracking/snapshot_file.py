"""A stored snapshot's table that stays in its file: features are read when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

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
    SYMBOL,
    Manifest,
    Snapshot,
    describe_part,
    verify_parts,
)
from steps.tracking.snapshot_table import bounded_batches, from_arrow

_INDEX: Final = [DATE, SYMBOL, LABEL, LABEL_KNOWN_AT]
_PART_ROWS: Final = 50_000


class SnapshotFile(Snapshot):
    """A snapshot whose features are in a Parquet file, verified when it is opened.

    Parameters
    ----------
    path : Path
        Must stay as it is while this is in use.
    manifest : dict
        See :func:`steps.market.snapshot.check_manifest`.

    Attributes
    ----------
    table : DataFrame, shape (n_rows, 4)
        ``date``, ``symbol`` (categorical), ``direction`` and ``label_known_at``.

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
        index: list[pd.DataFrame] = []

        def parts() -> Iterator[pd.DataFrame]:
            for rows in _whole_symbols(bounded_batches(path, manifest)):
                table = from_arrow(rows)
                index.append(table[_INDEX].astype({SYMBOL: symbols}))
                yield table

        symbols = pd.CategoricalDtype(manifest["symbols"])
        verify_parts(map(describe_part, parts()), manifest)
        self.table = pd.concat(index, ignore_index=True)

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
