"""The file that forecasts go into: CSV or Parquet, written piece by piece, all of it or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

FORMATS: Final = (".csv", ".parquet")

_SCHEMA: Final = pa.schema(
    {
        "date": pa.date32(),
        "symbol": pa.string(),
        "probability": pa.float64(),
        "direction": pa.int8(),
        "horizon": pa.int32(),
        "model_version": pa.string(),
        "feature_snapshot_id": pa.string(),
        "note": pa.string(),
    }
)


class ForecastFileError(RuntimeError):
    """The file cannot be written; the message says why."""


class ForecastFile:
    """Writes forecasts to a file that appears when the `with` block ends without an error.

    Parameters
    ----------
    path : Path
        Ends in one of `FORMATS`. A file that is there is replaced at the end, not before.

    Attributes
    ----------
    rows, rows_without_forecast : int
    symbols : list of str
    notes : dict of str to str
        The note on the newest forecast of each symbol that has one.
    sha256 : str
        Of the file; known after the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = self.rows_without_forecast = 0
        self.symbols: list[str] = []
        self.notes: dict[str, str] = {}
        self.sha256 = ""
        self._ups = 0
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._writer: Any = None

    @property
    def share_up(self) -> float:
        """The share of forecasts that call up; NaN where there is none."""
        given = self.rows - self.rows_without_forecast
        return self._ups / given if given else float("nan")

    def write(self, forecasts: pd.DataFrame) -> None:
        """Add forecasts of symbols that were not written yet.

        Parameters
        ----------
        forecasts : DataFrame
            As `steps.serving.forecast.forecast` returns it, with `model_version` and
            `feature_snapshot_id`.
        """
        table = pa.table(
            {name: pa.array(forecasts[name], from_pandas=True) for name in _SCHEMA.names}
        )
        with self._explaining():
            self._writer.write_table(table.cast(_SCHEMA))
        self.rows += len(forecasts)
        self.rows_without_forecast += int(forecasts["direction"].isna().sum())
        self._ups += int(forecasts["direction"].sum())
        newest = forecasts.drop_duplicates("symbol", keep="last")
        self.symbols += newest["symbol"].tolist()
        noted = newest[newest["note"] != ""]
        self.notes |= dict(zip(noted["symbol"], noted["note"], strict=True))

    def __enter__(self) -> Self:
        with self._explaining():
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.suffix == ".parquet":
                self._writer = parquet.ParquetWriter(self._part, _SCHEMA, compression="zstd")
            else:
                self._writer = arrow_csv.CSVWriter(self._part, _SCHEMA)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            with self._explaining() if error is None else suppress(OSError):
                self._writer.close()
            if error is None:
                with self._explaining(), self._part.open("rb") as stream:
                    self.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
                    self._part.replace(self.path)
        finally:
            self._part.unlink(missing_ok=True)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Name the file where it cannot be written."""
        try:
            yield
        except OSError as error:
            raise ForecastFileError(
                f"{self.path} cannot be written ({error.strerror or error}): make room there, or "
                "name another output"
            ) from error
