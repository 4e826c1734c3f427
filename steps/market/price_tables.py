"""Reads a CSV or Parquet file of prices into Arrow columns of known names, values untouched."""

import codecs
import csv
import gzip
import io
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from steps.market.price_headers import find_columns
from steps.market.price_report import Place, Problems, counted

_PARQUET_MAGIC: Final = b"PAR1"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PANDAS_INDEX: Final = "__index_level_0__"
_BLOCK: Final = 2**20
_BATCH_ROWS: Final = 50_000

_LETTING_GO: Final = 10
"""Seconds in which Arrow's thread lets go of a file it has read, unless it hangs."""

_LONGEST_LINE: Final = 2**20
"""Bytes; one of prices has some hundred."""

_DENSEST_TEXT: Final = 100
_DENSEST_TABLE: Final = 200
"""How many times the size of its file a text, or a table, may have once it is unpacked."""

_SMALL: Final = 2**28
"""Bytes that may come out of any file, however small it is."""

_ROW_BYTES: Final = 64
"""What a row of prices takes in memory."""


@dataclass(frozen=True)
class RawFile:
    """A file's columns as they were written, under the names of the prices table.

    Attributes
    ----------
    name : str
        What the user called the file.
    place : callable
        Says where a row stands in the file.
    columns : dict of str to pyarrow.ChunkedArray, shape (n_rows,)
        The columns that were found, at least one. Strings if from CSV.
    """

    name: str
    place: Place
    columns: dict[str, pa.ChunkedArray]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))


class _NotTextError(ValueError):
    """The bytes are not those of a text file."""


class _BombError(ValueError):
    """There is more in the file than prices would leave in one of its size."""


_UNREADABLE: Final = (
    *(OSError, EOFError, zlib.error, csv.Error, pa.ArrowException),
    *(_NotTextError, _BombError),
)


def file_format(path: Path) -> str:
    """Return "parquet" or "csv": Parquet by its first bytes or its name, else CSV."""
    with path.open("rb") as stream:
        magic = stream.read(len(_PARQUET_MAGIC))
    is_parquet = magic == _PARQUET_MAGIC or path.suffix.lower() == ".parquet"
    return "parquet" if is_parquet else "csv"


def read_raw(path: Path, name: str, problems: Problems) -> RawFile | None:
    """Read one file; note what is wrong with it as a whole.

    Returns
    -------
    RawFile or None
        None if there is nothing in the file that could be looked at further.
    """
    mend = "is it complete? Write or download it again"
    try:
        if path.stat().st_size == 0:
            problems.add(name, "empty file", f"the file is empty — {mend}")
            return None
        if file_format(path) == "parquet":
            mend = f"is it Parquet, and {mend.removeprefix('is it ')}"
            raw = _read_parquet(path, name, problems)
        else:
            raw = _read_csv(path, name, problems)
    except PermissionError:
        problems.add(name, "unreadable file", "access is denied — allow this user to read the file")
        return None
    except _UNREADABLE as error:
        problems.add(name, "unreadable file", f"the file cannot be read: {_reason(error)} — {mend}")
        return None
    if raw is not None and raw.rows == 0:
        problems.add(name, "no rows", f"the file has columns but no rows — {mend}")
        return None
    return raw


def read_batches(path: Path, name: str, problems: Problems) -> Iterator[RawFile]:
    """Read one file as `read_raw` does, but piece by piece: it may be larger than memory.

    That something is wrong is noted, but not where: rows are counted within their piece. For a
    report to people, follow with `read_raw`.

    Yields
    ------
    RawFile
        Some of the file's rows, in their order.
    """
    rows = 0
    try:
        in_batches = _parquet_batches if file_format(path) == "parquet" else _csv_batches
        for columns in in_batches(path, name, problems):
            raw = RawFile(name, lambda row: f"row {row + 1} of a piece", columns)
            rows += raw.rows
            yield raw
    except _UNREADABLE as error:
        problems.add(name, "unreadable file", f"the file cannot be read: {_reason(error)}")
    if not rows:
        problems.add(name, "no rows", "the file has no rows")


def _check_unpacked(size: int, stored: int, densest: int) -> None:
    """Refuse a file that was made to unpack to much more than prices would."""
    limit = max(_SMALL, densest * stored)
    if size > limit:
        raise _BombError(
            f"it unpacks to more than {limit / 2**20:,.0f} MB, {densest} times its size or more, "
            "as prices do not"
        )


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _read_parquet(path: Path, name: str, problems: Problems) -> RawFile | None:
    with _open_parquet(path) as file:
        stored = _stored_titles(file.schema_arrow, name, problems)
        if not stored:
            return None
        table = file.read(columns=list(stored.values()))
    _check_texts(table)
    columns = {column: table[title] for column, title in stored.items()}
    return RawFile(name, lambda row: f"row {row + 1}", columns)


def _parquet_batches(
    path: Path, name: str, problems: Problems
) -> Iterator[dict[str, pa.ChunkedArray]]:
    # Arrow would otherwise fetch whole columns, and keep what it has fetched.
    with _open_parquet(path, buffer_size=_BLOCK, pre_buffer=False) as file:
        stored = _stored_titles(file.schema_arrow, name, problems)
        if not stored:
            return
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(stored.values())):
            table = pa.Table.from_batches([batch])
            _check_texts(table)
            yield {column: table[title] for column, title in stored.items()}


@contextmanager
def _open_parquet(path: Path, **options: Any) -> Iterator[parquet.ParquetFile]:
    """Open a Parquet file, unless it says that it holds more than it can."""
    size = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        footer, schema = file.metadata, file.schema_arrow
        groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    rows = max(footer.num_rows, sum(group.num_rows for group in groups))
    _check_unpacked(rows * _ROW_BYTES, size, _DENSEST_TABLE)
    for group in groups:
        _check_unpacked(group.total_byte_size, size, _DENSEST_TABLE)
    # A text that repeats is stored once, and is not to be multiplied before its length is known.
    texts = [field.name for field in schema if _is_text(field.type)]
    with parquet.ParquetFile(path, read_dictionary=texts, **options) as file:
        yield file


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)
    )


def _check_texts(table: pa.Table) -> None:
    """Refuse texts that would take far more room, row by row, than they do in the file."""
    for column in table.columns:
        if pa.types.is_dictionary(column.type) and _is_text(column.type.value_type):
            for chunk in column.chunks:
                longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
                if longest * len(chunk) > _SMALL:
                    raise _BombError(f"it repeats a text of {longest:,} bytes in its rows")


def _stored_titles(schema: pa.Schema, name: str, problems: Problems) -> dict[str, str]:
    """Return under which title each column of the prices table is stored."""
    titles = list(schema.names)
    if _PANDAS_INDEX in titles and pa.types.is_temporal(schema.field(_PANDAS_INDEX).type):
        # An index without a name, saved by pandas: the dates.
        titles[titles.index(_PANDAS_INDEX)] = "date"
    found = find_columns(titles, name, problems)
    return {column: schema.names[position] for column, position in found.items()}


def _read_csv(path: Path, name: str, problems: Problems) -> RawFile | None:
    data = _text_of(path)
    stream = io.BytesIO(data)
    header = _header(stream)
    if not header:
        problems.add(name, "empty file", "the file holds blank lines only — write it again")
        return None
    found = find_columns(header, name, problems)
    if not found:
        return None
    if not data[stream.tell() :].strip():
        nothing = pa.chunked_array([], type=pa.string())
        return RawFile(name, str, dict.fromkeys(found, nothing))
    skipped: list[str] = []
    table = arrow_csv.read_csv(
        pa.BufferReader(pa.py_buffer(data).slice(stream.tell())),
        **_csv_options(len(header), found, skipped.append),
    )
    lines = _CsvLines(path, width=len(header), rows=table.num_rows)
    if skipped:
        kind = "wrong number of fields"
        problems.add(name, kind, *lines.describe_odd(skipped), count=len(skipped))
    columns = {column: table[str(position)] for column, position in found.items()}
    return RawFile(name, lines.place, columns) if table.num_rows else None


def _csv_batches(path: Path, name: str, problems: Problems) -> Iterator[dict[str, pa.ChunkedArray]]:
    with _open_text(path) as text:
        header = _header(text)
        found = find_columns(header, name, problems) if header else {}
        if not found:
            return
        note = partial(problems.add, name, "wrong number of fields")
        for batch in _record_batches(text, len(header), found, note):
            table = pa.Table.from_batches([batch])
            yield {column: table[str(position)] for column, position in found.items()}


def _record_batches(
    text: io.BufferedReader, width: int, found: Mapping[str, int], skipped: Callable[[str], None]
) -> Iterator[pa.RecordBatch]:
    """Yield what Arrow makes of a text, and return when its threads have let go of what is ours.

    A thread that still has something of Python's to give back when the process ends aborts it.
    """
    options: Any = _csv_options(width, found, skipped)
    handle: Any = io.BufferedReader(text)
    lent = [weakref.ref(each) for each in (handle, options["parse_options"].invalid_row_handler)]
    try:
        # Its blocks are in memory of Arrow's own; those of a file of Python's would be in Python's.
        stream = pa.BufferedInputStream(pa.PythonFile(handle, "r"), _BLOCK)
        with arrow_csv.open_csv(stream, **options) as reader:
            yield from reader
    finally:
        options = handle = stream = reader = None
        until = time.monotonic() + _LETTING_GO
        while any(each() is not None for each in lent) and time.monotonic() < until:
            time.sleep(0.001)


def _csv_options(
    width: int, found: Mapping[str, int], skipped: Callable[[str], None]
) -> dict[str, Any]:
    """Return how Arrow reads what is under the header; columns are called by their position.

    Rows that are not blank and have more or fewer than `width` fields are left out and given to
    `skipped`.
    """

    def skip(row: arrow_csv.InvalidRow) -> str:
        if row.text.strip():
            skipped(row.text)
        return "skip"

    titles = [str(position) for position in range(width)]
    return {
        "read_options": arrow_csv.ReadOptions(column_names=titles, block_size=_BLOCK),
        "parse_options": arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        "convert_options": arrow_csv.ConvertOptions(
            include_columns=[titles[position] for position in found.values()],
            column_types=dict.fromkeys(titles, pa.string()),
            strings_can_be_null=False,
        ),
    }


def _text_of(path: Path) -> bytes:
    """Return the file's text: unzipped, proven UTF-8, without byte order mark."""
    with _open_text(path) as text:
        return text.read()


@contextmanager
def _open_text(path: Path) -> Iterator[io.BufferedReader]:
    """Open the file's text as `_text_of` returns it; reading raises where it is none."""
    with path.open("rb") as stored:
        zipped = stored.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        stored.seek(0)
        stream: Any = gzip.GzipFile(fileobj=stored) if zipped else stored
        size = path.stat().st_size
        returns_only = not _has_line_feed(stream, size)
        stream.seek(0)
        marked = stream.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK
        stream.seek(len(_BYTE_ORDER_MARK) if marked else 0)
        proven = pa.TransformInputStream(pa.PythonFile(stream, "r"), _prover(returns_only, size))
        with io.BufferedReader(proven, _BLOCK) as text:
            yield text


def _has_line_feed(stream: Any, stored: int) -> bool:
    """Look for the first line feed of a text, in a file of `stored` bytes."""
    unpacked = pending = 0
    for block in iter(partial(stream.read, _BLOCK), b""):
        if b"\n" in block:
            return True
        unpacked += len(block)
        _check_unpacked(unpacked, stored, _DENSEST_TEXT)
        pending = _pending(block, b"\r", pending, 1)
    return False


def _pending(block: bytes, end: bytes, pending: int, line: int) -> int:
    """Return how long the line is that a block leaves unfinished, `pending` having come before."""
    pending += len(block.partition(end)[0])
    if pending > _LONGEST_LINE:
        raise _NotTextError(
            f"line {line} has more than {_LONGEST_LINE:,} bytes, as no line of prices has"
        )
    return len(block) - block.rfind(end) - 1 if end in block else pending


def _prover(returns_only: bool, stored: int) -> Callable[[pa.Buffer], bytes]:
    """Return a function that passes on blocks of text, and raises at what is none.

    Files of old whose lines end in a carriage return alone get line feeds.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    unpacked = pending = 0

    def prove(buffer: pa.Buffer) -> bytes:
        nonlocal line, unpacked, pending
        block: bytes = buffer.to_pybytes()
        unpacked += len(block)
        _check_unpacked(unpacked, stored, _DENSEST_TEXT)
        pending = _pending(block, b"\r" if returns_only else b"\n", pending, line)
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            raise _NotTextError(f"line {line} is not UTF-8 text, save it as UTF-8") from error
        if b"\0" in block:
            raise _NotTextError("it holds zero bytes, so it is not UTF-8 text")
        line += block.count(b"\n")
        return block.replace(b"\r", b"\n") if returns_only else block

    return prove


def _header(text: BinaryIO) -> list[str]:
    """Return the titles in the first line that is not blank; the next line is what follows."""
    records = csv.reader(line.decode("utf-8") for line in text)
    return next((record for record in records if _is_filled(record)), [])


def _is_filled(record: Sequence[str]) -> bool:
    return len(record) > 1 or any(cell.strip() for cell in record)


@dataclass
class _CsvLines:
    """On which line each row stands: worked out only when there is something to report.

    Attributes
    ----------
    width, rows : int
        Fields of the header, and rows of that width that Arrow found.
    """

    path: Path
    width: int
    rows: int

    def place(self, row: int) -> str:
        """Return a row's line, or its number where rows and lines cannot be matched."""
        lines = [line for line, fields in self._records if fields == self.width]
        return f"line {lines[row]}" if len(lines) == self.rows else f"row {row + 1}"

    def describe_odd(self, skipped: Sequence[str]) -> list[str]:
        """Describe the rows that have more or fewer fields than the header."""
        odd = [(f"line {line}", n) for line, n in self._records if n != self.width]
        if len(odd) != len(skipped):
            odd = [(f"the row {text[:40]!r}", text.count(",") + 1) for text in skipped]
        return [
            f"{where}: {counted(fields, 'field')} where the header has {self.width} — complete the"
            " line, or put values that hold commas in quotes"
            for where, fields in odd
        ]

    @cached_property
    def _records(self) -> list[tuple[int, int]]:
        """First line and number of fields of each record under the header; empty if unclear."""
        records: list[tuple[int, int]] = []
        line = 1
        try:
            reader = csv.reader(io.StringIO(_text_of(self.path).decode("utf-8"), newline=""))
            for record in reader:
                if _is_filled(record):
                    records.append((line, len(record)))
                line = reader.line_num + 1
        except (csv.Error, OSError):
            return []
        return records[1:]
