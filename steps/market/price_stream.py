"""Reads prices that are larger than memory: checked as a whole, then served by whole symbols."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from steps.market.price_checks import NO_ZONE, Days, ParsedFile, check_values, clashing_zones
from steps.market.price_columns import parse_file
from steps.market.price_files import PriceFiles
from steps.market.price_join import join_files
from steps.market.price_report import PriceError, Problems
from steps.market.price_tables import read_batches
from steps.market.prices import read_prices

_MEMORY: Final = "256MB"
_BATCH_ROWS: Final = 50_000


@dataclass(frozen=True)
class PriceStream:
    """Checked prices, at hand symbol by symbol while `open_price_stream` is open.

    Attributes
    ----------
    rows, symbols : int
        How many there are.
    first_date, last_date : date
        Of all symbols together.
    """

    rows: int
    symbols: int
    first_date: date
    last_date: date
    _sorted: Path = field(repr=False)
    _sizes: Sequence[int] = field(repr=False)

    def tables(self, rows: int = 200_000) -> Iterator[pd.DataFrame]:
        """Yield the prices in pieces of whole symbols; each call begins anew.

        Parameters
        ----------
        rows : int, default 200,000
            Size of a piece; only a symbol that alone is longer exceeds it.

        Yields
        ------
        DataFrame, shape (n_rows, 7)
            As `steps.market.prices.Prices.table`. All pieces, one under the other, are the table
            that `read_prices` returns, bit for bit.
        """
        with pa.OSFile(str(self._sorted)) as file, pa.ipc.open_stream(file) as batches:
            held = batches.schema.empty_table()
            for size in _piece_sizes(self._sizes, rows):
                parts = [held]
                missing = size - held.num_rows
                while missing > 0:
                    parts.append(pa.Table.from_batches([batches.read_next_batch()]))
                    missing -= parts[-1].num_rows
                held = pa.concat_tables(parts)
                yield join_files([_from_arrow(held.slice(0, size))])
                held = held.slice(size)


@contextmanager
def open_price_stream(files: PriceFiles) -> Iterator[PriceStream]:
    """Check and sort prices on disk, for what is too large to be read at once.

    Memory does not grow with the number of rows, only with that of symbols and of dates: some
    600 MB do. Temporary files, while sorting about 130 bytes a row and half of that afterwards, go
    where `tempfile` puts them: if ``/tmp`` is kept in memory, set ``TMPDIR`` to a disk.

    Parameters
    ----------
    files : PriceFiles

    Yields
    ------
    PriceStream

    Raises
    ------
    PriceError
        As `read_prices` does, before anything is yielded; or there is no room to sort them.
    """
    with tempfile.TemporaryDirectory(prefix="prices-") as folder:
        problems = Problems()
        stream = _check_and_sort(files, Path(folder), problems)
        if stream is None:
            # Reading the files as a whole says where, by line, and finds all the rest.
            read_prices(files)
            raise PriceError(
                "the prices were refused, yet not when read again — do not write to them meanwhile,"
                f" then try again; at first, {' '.join(str(problems).split())}"
            )
        yield stream


class _Intake:
    """Parses and checks files batch by batch, up to the first that is wrong.

    Attributes
    ----------
    days : dict of int to ndarray of datetime64[s]
        The distinct dates so far, by their offset from UTC.
    """

    def __init__(self, files: PriceFiles, problems: Problems) -> None:
        self._files = files
        self._problems = problems
        self.days: dict[int, Days] = {}

    def batches(self) -> Iterator[ParsedFile]:
        columns = None
        for path, name in zip(self._files.paths, self._files.names, strict=True):
            for raw in read_batches(path, name, self._problems):
                parsed = parse_file(raw, self._problems)
                check_values(parsed, self._problems)
                columns = columns or parsed.numbers.keys()
                if parsed.numbers.keys() != columns:
                    self._problems.add(name, "missing column", "adj_close is in some files only")
                if self._problems:
                    return
                self._note_days(parsed)
                yield parsed
            if self._problems:
                return
        days = list(self.days.values())
        offsets = np.repeat(np.array(list(self.days), np.int16), [len(some) for some in days])
        if days and clashing_zones(np.concatenate(days), offsets):
            self._problems.add(self._files.names[0], "mixed time zones", "time zones are mixed")

    def _note_days(self, parsed: ParsedFile) -> None:
        for offset in np.unique(parsed.offsets).tolist():
            days = np.unique(parsed.days[parsed.offsets == offset])
            self.days[offset] = np.union1d(self.days.get(offset, days[:0]), days)


def _check_and_sort(files: PriceFiles, folder: Path, problems: Problems) -> PriceStream | None:
    """Write all rows to one file, sorted; return None once anything is wrong."""
    intake = _Intake(files, problems)
    parsed = intake.batches()
    first = next(parsed, None)
    if first is None:
        return None
    path = folder / "sorted.arrow"
    symbols = _SymbolSizes()
    with (
        _in_order(chain([first], parsed), tuple(first.numbers), folder) as batches,
        pa.OSFile(str(path), "wb") as file,
        pa.ipc.new_stream(file, batches.schema) as writer,
    ):
        for batch in batches:
            if not problems and not symbols.add(batch):
                problems.add(files.names[0], "duplicate", "a symbol has two rows of one day")
            if problems:
                return None
            writer.write_batch(batch)
    if problems:
        return None
    days = np.concatenate(list(intake.days.values())).astype("datetime64[D]")
    return PriceStream(
        sum(symbols.sizes),
        len(symbols.sizes),
        days.min().item(),
        days.max().item(),
        path,
        symbols.sizes,
    )


@contextmanager
def _in_order(
    parsed: Iterator[ParsedFile], numbers: Sequence[str], folder: Path
) -> Iterator[pa.RecordBatchReader]:
    """Open the rows of all files, sorted by the symbol's code points, then by day."""
    import duckdb  # here, for it takes a quarter of a second, and few need it

    schema = pa.schema(
        [("symbol", pa.string()), ("day", pa.int64()), *((name, pa.float64()) for name in numbers)]
    )
    raised: list[BaseException] = []

    def source() -> Iterator[pa.RecordBatch]:
        try:
            yield from (_to_arrow(file, schema) for file in parsed)
        except BaseException as error:  # Arrow would wrap it, even one that asks to stop
            raised.append(error)
            raise

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": _MEMORY,
        "threads": 2,
        "temp_directory": str(folder / "spilled"),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(":memory:", config=config) as database:
            database.execute("SET enable_progress_bar = false")
            rows = pa.RecordBatchReader.from_batches(schema, source())
            # Its strings compare as bytes of UTF-8, whose order is that of the code points.
            yield database.from_arrow(rows).order("symbol, day").to_arrow_reader(_BATCH_ROWS)
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if raised:
            raise raised[0] from None
        raise PriceError(
            f"the prices cannot be sorted in {folder.parent}: {str(error).splitlines()[0]} — free"
            " space there, or set TMPDIR to a larger folder"
        ) from error


class _SymbolSizes:
    """Counts the rows of each symbol in sorted batches.

    Attributes
    ----------
    sizes : list of int
        Rows of each symbol, in sorted order.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._last: tuple[str, int] | None = None

    def add(self, batch: pa.RecordBatch) -> bool:
        """Count a batch; return False if a symbol has two rows of one day."""
        runs = pc.run_end_encode(batch["symbol"])
        ends = runs.run_ends.to_numpy()
        days = batch["day"].to_numpy()
        steps = np.diff(days)
        steps[ends[:-1] - 1] = 1  # from one symbol to the next
        distinct = bool((steps > 0).all())
        sizes = np.diff(ends, prepend=0).tolist()
        if self._last is not None and runs.values[0].as_py() == self._last[0]:
            distinct = distinct and days[0] > self._last[1]
            self.sizes[-1] += sizes.pop(0)
        self.sizes += sizes
        self._last = runs.values[-1].as_py(), days[-1]
        return distinct


def _piece_sizes(sizes: Sequence[int], rows: int) -> Iterator[int]:
    """Join consecutive symbols to pieces of at most `rows` rows, or of one longer symbol."""
    piece = 0
    for size in sizes:
        if piece and piece + size > rows:
            yield piece
            piece = 0
        piece += size
    yield piece


def _to_arrow(file: ParsedFile, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        pa.array(file.symbols, pa.string()).take(pa.array(file.codes)),
        file.days.astype("datetime64[s]").astype(np.int64),
        *file.numbers.values(),
    ]
    return pa.record_batch([pa.array(column) for column in columns], schema=schema)


def _from_arrow(table: pa.Table) -> ParsedFile:
    symbols = table["symbol"].combine_chunks().dictionary_encode()
    return ParsedFile(
        name="sorted prices",
        place=str,
        days=table["day"].to_numpy().astype("datetime64[s]"),
        offsets=np.full(table.num_rows, NO_ZONE, np.int16),
        symbols=np.array(symbols.dictionary.to_pylist(), dtype=object),
        codes=symbols.indices.to_numpy().astype(np.intp),
        numbers={name: table[name].to_numpy() for name in table.column_names[2:]},
    )
