"""Reads a CSV or Parquet file of prices into Arrow columns of known names, values untouched."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from steps.market.price_headers import find_columns
from steps.market.price_report import Place, Problems, counted

_PARQUET_MAGIC: Final = b"PAR1"
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PANDAS_INDEX: Final = "__index_level_0__"


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
    except (OSError, EOFError, zlib.error, csv.Error, _NotTextError, pa.ArrowException) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        problems.add(name, "unreadable file", f"the file cannot be read: {reason} — {mend}")
        return None
    if raw is not None and raw.rows == 0:
        problems.add(name, "no rows", f"the file has columns but no rows — {mend}")
        return None
    return raw


def _read_parquet(path: Path, name: str, problems: Problems) -> RawFile | None:
    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        titles = list(schema.names)
        if _PANDAS_INDEX in titles and pa.types.is_temporal(schema.field(_PANDAS_INDEX).type):
            # An index without a name, saved by pandas: the dates.
            titles[titles.index(_PANDAS_INDEX)] = "date"
        found = find_columns(titles, name, problems)
        if not found:
            return None
        stored = {column: schema.names[position] for column, position in found.items()}
        table = file.read(columns=list(stored.values()))
    columns = {column: table[title] for column, title in stored.items()}
    return RawFile(name, lambda row: f"row {row + 1}", columns)


def _read_csv(path: Path, name: str, problems: Problems) -> RawFile | None:
    data = _text_of(path)
    if not data.strip():
        problems.add(name, "empty file", "the file holds blank lines only — write it again")
        return None
    header, start = _header(data)
    found = find_columns(header, name, problems)
    if not found:
        return None
    if not data[start:].strip():
        nothing = pa.chunked_array([], type=pa.string())
        return RawFile(name, str, dict.fromkeys(found, nothing))
    skipped: list[str] = []

    def skip(row: arrow_csv.InvalidRow) -> str:
        skipped.extend([row.text] if row.text.strip() else [])
        return "skip"

    titles = [str(position) for position in range(len(header))]
    table = arrow_csv.read_csv(
        pa.BufferReader(pa.py_buffer(data).slice(start)),
        read_options=arrow_csv.ReadOptions(column_names=titles),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=[titles[position] for position in found.values()],
            column_types=dict.fromkeys(titles, pa.string()),
            strings_can_be_null=False,
        ),
    )
    lines = _CsvLines(path, width=len(header), rows=table.num_rows)
    if skipped:
        kind = "wrong number of fields"
        problems.add(name, kind, *lines.describe_odd(skipped), count=len(skipped))
    columns = {column: table[titles[position]] for column, position in found.items()}
    return RawFile(name, lines.place, columns) if table.num_rows else None


def _text_of(path: Path) -> bytes:
    """Return the file's text: unzipped, proven UTF-8, without byte order mark."""
    data = path.read_bytes()
    if data.startswith(_GZIP_MAGIC):
        data = gzip.decompress(data)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _NotTextError(f"line {line} is not UTF-8 text, save it as UTF-8") from error
    if b"\0" in data:
        raise _NotTextError("it holds zero bytes, so it is not UTF-8 text")
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    return data.removeprefix(_BYTE_ORDER_MARK)


def _header(data: bytes) -> tuple[list[str], int]:
    """Return the titles in the first line that is not blank, and where the next line begins."""
    consumed: list[int] = []

    def lines() -> Iterator[str]:
        for line in io.BytesIO(data):
            consumed.append(len(line))
            yield line.decode("utf-8")

    titles = next(record for record in csv.reader(lines()) if _is_filled(record))
    return titles, sum(consumed)


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
