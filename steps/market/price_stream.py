"""Reads prices that are larger than memory: checked as a whole, then served by whole symbols."""

import operator
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any, Final

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
from steps.market.prices import read_prices, too_short

_MEMORY: Final = "256MB"
_BATCH_ROWS: Final = 50_000


@dataclass(frozen=True)
class PricePiece:
    """Some whole symbols of sorted prices in a file; may be read in another process.

    Attributes
    ----------
    path : Path
    start, stop : int
        Its rows in the file.
    batches : tuple of int
        The first row of every batch in the file, and the number of all rows.
    lengths : tuple of int
        Rows of each of its symbols.
    min_rows : int
        Symbols with fewer rows are left out.
    """

    path: Path
    start: int
    stop: int
    batches: tuple[int, ...] = field(repr=False)
    lengths: tuple[int, ...] = field(repr=False)
    min_rows: int = 1

    def read(self) -> pd.DataFrame:
        """Return the prices as `steps.market.prices.Prices.table`."""
        first = bisect_right(self.batches, self.start) - 1
        last = bisect_left(self.batches, self.stop)
        with pa.OSFile(str(self.path)) as source, pa.ipc.open_file(source) as file:
            batches = [file.get_batch(number) for number in range(first, last)]
        rows = pa.Table.from_batches(batches).slice(
            self.start - self.batches[first], self.stop - self.start
        )
        lengths = np.array(self.lengths)
        if (lengths < self.min_rows).any():
            rows = rows.filter(pa.array(np.repeat(lengths >= self.min_rows, lengths)))
        return join_files([_from_arrow(rows)])


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
    _batches: tuple[int, ...] = field(repr=False)
    _sizes: Mapping[str, int] = field(repr=False)

    def too_short(self, min_rows: int) -> dict[str, int]:
        """Return the symbols with fewer rows than `min_rows`, and how many they have.

        Raises
        ------
        PriceError
            If all of them are too short.
        """
        return too_short(self._sizes, min_rows)

    def pieces(self, rows: int = 200_000, *, min_rows: int = 1) -> list[PricePiece]:
        """Cut the prices into pieces of whole symbols.

        Parameters
        ----------
        rows : int, default 200,000
            Size of a piece; only a symbol that alone is longer exceeds it.
        min_rows : int, default 1
            Symbols with fewer rows are left out, and with them pieces that have no others.
        """
        found, start = [], 0
        for lengths in _pieces(list(self._sizes.values()), rows):
            stop = start + sum(lengths)
            if max(lengths) >= min_rows:
                found.append(
                    PricePiece(self._sorted, start, stop, self._batches, lengths, min_rows)
                )
            start = stop
        return found

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
        for piece in self.pieces(rows):
            yield piece.read()

    def spread(self, symbols: int, *, min_rows: int) -> pd.DataFrame:
        """Return the prices of some symbols of at least `min_rows` rows, evenly spread."""
        lengths = np.array(list(self._sizes.values()))
        stops = np.cumsum(lengths)
        long_enough = np.flatnonzero(lengths >= min_rows)
        most = min(symbols, len(long_enough))
        chosen = long_enough[np.linspace(0, len(long_enough) - 1, most).round().astype(int)]
        return pd.concat(
            [
                PricePiece(
                    self._sorted,
                    int(stops[symbol] - lengths[symbol]),
                    int(stops[symbol]),
                    self._batches,
                    (int(lengths[symbol]),),
                ).read()
                for symbol in chosen
            ],
            ignore_index=True,
        )


@contextmanager
def open_price_stream(files: PriceFiles) -> Iterator[PriceStream]:
    """Check and sort prices on disk, for what is too large to be read at once.

    Memory does not grow with the number of rows, only with that of symbols and of dates: some
    600 MB do. Temporary files, about 65 bytes a row and twice that while rows that come in another
    order are sorted, go where `tempfile` puts them: if ``/tmp`` is kept in memory, set ``TMPDIR``
    to a disk.

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
    schema = _schema(tuple(first.numbers))
    rows = (_to_arrow(file, schema) for file in chain([first], parsed))
    path = folder / "prices.arrow"
    with _room_is_needed(folder):
        written = _write_while_sorted(rows, schema, path)
        if written.out_of_order is not None:
            unsorted = chain(_read_batches(path), [written.out_of_order], rows)
            path = folder / "sorted.arrow"
            with _in_order(unsorted, schema, folder) as batches:
                written = _write_while_sorted(batches, schema, path)
        if written.out_of_order is not None and not problems:
            problems.add(files.names[0], "duplicate", "a symbol has two rows of one day")
    if problems:
        return None
    days = np.concatenate(list(intake.days.values())).astype("datetime64[D]")
    return PriceStream(
        sum(written.sizes.values()),
        len(written.sizes),
        days.min().item(),
        days.max().item(),
        path,
        tuple(written.batches),
        written.sizes,
    )


@contextmanager
def _room_is_needed(folder: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise PriceError(
            f"the prices cannot be sorted in {folder.parent}: {str(error).splitlines()[0]} — free"
            " space there, or set TMPDIR to a larger folder"
        ) from error


@dataclass
class _Written:
    """What was written of some batches.

    Attributes
    ----------
    batches : list of int
        The first row of each, and the number of rows.
    sizes : dict of str to int
        Rows of each symbol.
    out_of_order : RecordBatch or None
        The first batch that was not written, for its rows do not follow those before it, sorted by
        symbol and day, each once.
    """

    batches: list[int] = field(default_factory=lambda: [0])
    sizes: dict[str, int] = field(default_factory=dict)
    out_of_order: pa.RecordBatch | None = None


def _write_while_sorted(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path
) -> _Written:
    """Write batches as long as they are sorted: most people's files are, symbol by symbol."""
    written = _Written()
    last: tuple[str, int] | None = None
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            if not batch.num_rows:
                continue
            runs = pc.run_end_encode(batch["symbol"])
            symbols = runs.values.to_pylist()
            days = batch["day"].to_numpy()
            if not _follow(last, symbols, runs.run_ends.to_numpy(), days):
                written.out_of_order = batch
                break
            for symbol, size in zip(symbols, np.diff(runs.run_ends, prepend=0), strict=True):
                written.sizes[symbol] = written.sizes.get(symbol, 0) + int(size)
            last = symbols[-1], int(days[-1])
            writer.write_batch(batch)
            written.batches.append(written.batches[-1] + batch.num_rows)
    return written


def _follow(
    last: tuple[str, int] | None,
    symbols: list[str],
    ends: np.ndarray[Any, np.dtype[np.int32]],
    days: np.ndarray[Any, np.dtype[np.int64]],
) -> bool:
    """Tell whether the runs of a batch, ending at `ends`, are sorted and follow the last row."""
    if last is not None and (symbols[0], int(days[0])) <= last:
        return False
    steps = np.diff(days)
    steps[ends[:-1] - 1] = 1  # from one symbol to the next
    return bool((steps > 0).all()) and all(map(operator.lt, symbols, symbols[1:]))


def _read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def _schema(numbers: Sequence[str]) -> pa.Schema:
    names = [("symbol", pa.string()), ("day", pa.int64())]
    return pa.schema([*names, *((name, pa.float64()) for name in numbers)])


@contextmanager
def _in_order(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, folder: Path
) -> Iterator[pa.RecordBatchReader]:
    """Open the rows of all files, sorted by the symbol's code points, then by day."""
    import duckdb  # here, for it takes a quarter of a second, and few need it

    raised: list[BaseException] = []

    def source() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
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
        raise OSError(str(error)) from error


def _pieces(sizes: Sequence[int], rows: int) -> Iterator[tuple[int, ...]]:
    """Join consecutive symbols to pieces of at most `rows` rows, or of one longer symbol."""
    piece: list[int] = []
    total = 0
    for size in sizes:
        if piece and total + size > rows:
            yield tuple(piece)
            piece, total = [], 0
        piece.append(size)
        total += size
    yield tuple(piece)


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
