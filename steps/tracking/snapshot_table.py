"""The Parquet file that holds a snapshot's table, read without believing what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from steps.market.snapshot import DATE, LABEL, LABEL_KNOWN_AT, SYMBOL

_TYPES: Final = {
    DATE: pa.date32(),
    SYMBOL: pa.string(),
    LABEL: pa.int8(),
    LABEL_KNOWN_AT: pa.date32(),
}
_SMALL: Final = 256 * 2**20
"""Bytes that a table may take in memory, however small its file is."""

_DENSEST: Final = 50
"""How many times the size of its file a table may have in memory: features hardly shrink."""

_BATCH_ROWS: Final = 2**15


class TableWriter:
    """Writes a feature table part by part, each a row group of its own.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pd.DataFrame | pa.Table) -> None:
        """Write the next rows."""
        rows = to_arrow(table) if isinstance(table, pd.DataFrame) else table
        if self._writer is None:
            # A dictionary of floats that hardly ever repeat would take most of the time. Their
            # first bytes are much alike: bytes of the same place put together shrink better.
            floats = [field.name for field in rows.schema if pa.types.is_float32(field.type)]
            self._writer = pq.ParquetWriter(
                self._path,
                rows.schema,
                compression="zstd",
                use_dictionary=[name for name in rows.schema.names if name not in floats],
                use_byte_stream_split=floats,
            )
        self._writer.write_table(rows, row_group_size=rows.num_rows)

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            self._writer.close()


def to_arrow(table: pd.DataFrame) -> pa.Table:
    """Return a feature table as Arrow, with days as days and no trace of pandas."""
    return pa.table({name: _to_arrow(table[name], name) for name in table.columns})


def _to_arrow(column: pd.Series[Any], name: str) -> pa.Array:
    if name not in _TYPES:  # a feature, which is all there: to look for gaps would take longer
        return pa.array(column.to_numpy(), type=pa.float32())
    days = name in (DATE, LABEL_KNOWN_AT)
    values = column.to_numpy("datetime64[D]") if days else column
    return pa.array(values, type=_TYPES[name], from_pandas=True)


def _type(name: str) -> pa.DataType:
    return _TYPES.get(name, pa.float32())


def read_table(path: Path, manifest: Mapping[str, Any]) -> pa.Table:
    """Read a table of the columns and rows that a manifest tells of, and of no others.

    Parameters, and what is raised, are those of :func:`bounded_batches`.
    """
    return pa.Table.from_batches(list(bounded_batches(path, manifest)))


def bounded_batches(path: Path, manifest: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """Read a table of the columns and rows that a manifest tells of, and of no others.

    Parameters
    ----------
    path : Path
    manifest : mapping
        See :func:`steps.market.snapshot.check_manifest`.

    Yields
    ------
    RecordBatch
        The next rows; there is at least one batch.

    Raises
    ------
    ValueError
        If the file says that it holds something else, or holds much more than its size allows for.
    """
    limit = max(_SMALL, _DENSEST * path.stat().st_size)
    # As they are in the file, symbols take a number each, whatever a name that repeats is made of.
    # Arrow would otherwise keep all that it has read until the end.
    with pq.ParquetFile(path, read_dictionary=[SYMBOL], pre_buffer=False) as file:
        found = {field.name: _plain(field.type) for field in file.schema_arrow}
        names = manifest["feature_names"]
        expected = {name: _type(name) for name in (DATE, SYMBOL, *names, LABEL, LABEL_KNOWN_AT)}
        if found != expected or len(file.schema_arrow) != len(expected):
            odd = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
            raise ValueError(
                f"its columns are not those of the manifest: {', '.join(map(repr, odd[:5]))}"
            )
        if file.metadata.num_rows != manifest["row_count"]:
            raise ValueError(
                f"it has {file.metadata.num_rows:,} rows, the manifest {manifest['row_count']:,}"
            )
        size = 0
        for batch in file.iter_batches(_BATCH_ROWS):
            size += batch.nbytes + _symbol_bytes(batch)
            if size > limit:
                raise ValueError(
                    f"it unpacks to more than {limit / 2**20:,.0f} MB, {_DENSEST} times its size"
                )
            yield batch
    if not size:
        raise ValueError("it has no rows")


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _symbol_bytes(batch: pa.RecordBatch) -> int:
    """Return how much the symbols of some rows take when every row has its own."""
    column = batch.column(batch.schema.get_field_index(SYMBOL))
    longest = max((len(symbol or "") for symbol in column.dictionary.to_pylist()), default=0)
    return int(longest * batch.num_rows)


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """Return the feature table that :func:`to_arrow` made, with the very same dtypes."""
    table.validate(full=True)  # or a damaged symbol would show first when somebody reads it
    # What a file says of pandas is the writer's wish: another index, other types.
    table = table.replace_schema_metadata(None)
    symbol = table.schema.get_field_index(SYMBOL)
    table = table.set_column(symbol, SYMBOL, table[SYMBOL].cast(pa.string()))
    frame: pd.DataFrame = table.to_pandas(date_as_object=False, ignore_metadata=True)
    for name in (DATE, LABEL_KNOWN_AT):
        frame[name] = frame[name].astype("datetime64[s]")
    frame[LABEL] = pd.array(table[LABEL].to_pandas(integer_object_nulls=True), dtype="Int8")
    frame[SYMBOL] = frame[SYMBOL].astype("str")
    return frame
