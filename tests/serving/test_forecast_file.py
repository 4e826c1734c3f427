"""The file of forecasts: complete or not there."""

import hashlib
import resource
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steps.serving.forecast_file import ForecastFile, ForecastFileError


def forecasts(symbol: str, probabilities: list[float], note: str = "") -> pd.DataFrame:
    up = pd.Series(np.array(probabilities) > 0.5, dtype="Int8")
    return pd.DataFrame(
        {
            "date": pd.date_range("2024-01-01", periods=len(probabilities)).as_unit("s"),
            "symbol": symbol,
            "probability": probabilities,
            "direction": up.mask(np.isnan(probabilities)),
            "horizon": 1,
            "model_version": "m version 1",
            "feature_snapshot_id": "0" * 32,
            "note": note,
        }
    )


PARTS = [
    forecasts("A", [0.1 + 0.2, 2 / 3]),
    forecasts('"B", <i>', [float("nan"), 0.75], "stale"),
    forecasts("=1+1", [float("nan")], "1 row of the 34 needed"),
]


@pytest.mark.parametrize("name", ["f.csv", "f.parquet"])
def test_what_is_written_can_be_read(name: str, tmp_path: Path) -> None:
    with ForecastFile(tmp_path / "new" / name) as file:
        for part in PARTS:
            file.write(part)
        assert not file.path.exists()
    read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
    found = read(file.path)
    expected = pd.concat(PARTS, ignore_index=True)
    assert list(found.columns) == list(expected.columns)
    assert found["probability"].equals(expected["probability"])  # to the last bit
    assert found["symbol"].tolist() == expected["symbol"].tolist()
    assert found["direction"].tolist()[:2] == [0, 1]
    assert pd.isna(found["direction"].iloc[2])
    assert found["date"].astype(str).tolist() == expected["date"].astype(str).tolist()
    assert (file.rows, file.rows_without_forecast, file.symbols) == (
        5,
        2,
        ["A", '"B", <i>', "=1+1"],
    )
    assert file.share_up == 2 / 3
    assert file.notes == {'"B", <i>': "stale", "=1+1": "1 row of the 34 needed"}
    assert file.sha256 == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert [path.name for path in file.path.parent.iterdir()] == [name]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("yesterday's\n")
    with pytest.raises(RuntimeError), ForecastFile(path) as file:
        file.write(PARTS[0])
        raise RuntimeError
    assert path.read_text() == "yesterday's\n"
    assert [each.name for each in tmp_path.iterdir()] == ["f.csv"]


def test_a_place_that_takes_no_more_is_named(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with (
            pytest.raises(ForecastFileError, match=r"f\.csv cannot be written \(.*\): make room"),
            ForecastFile(tmp_path / "f.csv") as file,
        ):
            for _ in range(50):
                file.write(forecasts("A", [0.25] * 1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, former)
    assert not list(tmp_path.iterdir())


def test_nothing_to_write_is_a_file_without_rows(tmp_path: Path) -> None:
    with ForecastFile(tmp_path / "f.csv") as file:
        pass
    assert file.path.read_text().strip().replace('"', "").startswith("date,symbol,probability")
    assert np.isnan(file.share_up)
