"""Prices: what is accepted gives one and the same table; what is refused says where and why."""

import gzip
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps.market.prices import PriceError, PriceFiles, load_prices, open_prices, read_prices

HEADER = "date,symbol,open,high,low,close,volume"
ROWS = ["2020-01-02,AAA,10.1,11.2,9.3,10.4,100", "2020-01-03,AAA,10.4,12.5,10.3,12.1,200"]
COLUMNS = HEADER.split(",")


def write_csv(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path, columns: dict[str, object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def as_columns(**changes: object) -> dict[str, object]:
    """Return the columns of ROWS, some of them replaced."""
    plain: dict[str, object] = {
        "date": [date(2020, 1, 2), date(2020, 1, 3)],
        "symbol": ["AAA", "AAA"],
        "open": [10.1, 10.4],
        "high": [11.2, 12.5],
        "low": [9.3, 10.3],
        "close": [10.4, 12.1],
        "volume": [100.0, 200.0],
    }
    return plain | changes


def expected() -> pd.DataFrame:
    table = pd.DataFrame(as_columns())
    table["date"] = table["date"].astype("datetime64[s]")
    return table


def refusal(source: str | Path, **options: int) -> str:
    with pytest.raises(PriceError) as caught:
        load_prices(source, **options)
    return str(caught.value)


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first, second, check_exact=True)


# --- the bundled prices ------------------------------------------------------------------------


def test_sample_has_the_rows_its_readme_lists():
    prices = load_prices("sample")
    table = prices.table
    assert len(table) == 12_154
    assert table.groupby("symbol").size().to_dict() == {
        "AAPL": 3270,
        "FB": 196,
        "GOOG": 2148,
        "IBM": 3270,
        "MSFT": 3270,
    }
    assert (table["date"].min(), table["date"].max()) == (
        pd.Timestamp("2000-03-01"),
        pd.Timestamp("2013-03-01"),
    )
    assert prices.dropped == {}


def test_table_has_the_promised_shape():
    table = load_prices("sample").table
    assert {column: str(kind) for column, kind in table.dtypes.items()} == {
        "date": "datetime64[s]",
        "symbol": "str",
        **dict.fromkeys(COLUMNS[2:], "float64"),
    }
    assert list(table.columns) == COLUMNS
    assert isinstance(table.index, pd.RangeIndex)
    assert not table.isna().any(axis=None)
    same(table, table.sort_values(["symbol", "date"], ignore_index=True))


def test_sample_is_small_and_its_readme_names_its_hash():
    with open_prices("sample") as files:
        (path,) = files.paths
    assert path.stat().st_size < 500_000
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in (path.parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("symbol", "day", "traded", "adjusted"),
    [
        # closes and adjusted closes (rounded) of the day and the day before, as published
        ("AAPL", "2000-06-21", 55.63 / 101.25 - 1, 3.574615 / 3.253009 - 1),
        ("AAPL", "2005-02-28", 44.86 / 88.99 - 1, 5.765135 / 5.718228 - 1),
        ("MSFT", "2003-02-18", 24.96 / 48.30 - 1, 16.615653 / 16.076443 - 1),
    ],
)
def test_splits_of_the_sample_are_adjusted(symbol, day, traded, adjusted):
    with open_prices("sample") as files:
        raw = pd.read_parquet(files.paths[0])
    raw["date"] = pd.to_datetime(raw["date"])

    def change(table: pd.DataFrame) -> float:
        closes = table[table["symbol"] == symbol].set_index("date")["close"]
        return float(closes.pct_change()[day])

    assert traded < -0.45
    assert abs(adjusted) < 0.1
    assert change(raw) == pytest.approx(traded, rel=1e-12)
    assert change(load_prices("sample").table) == pytest.approx(adjusted, abs=1e-6)


def test_adjustment_by_hand(tmp_path):
    # a close of 40 adjusted to 10: prices times 1/4, volume times 4
    path = write_csv(
        tmp_path / "a.csv",
        "2020-01-02,AAA,36,44,32,40,100,10",
        "2020-01-03,AAA,11,12,10,11,500,11",
        header=HEADER + ",adj_close",
    )
    table = load_prices(path).table
    assert list(table.columns) == COLUMNS
    assert table.iloc[:, 2:].to_numpy().tolist() == [[9, 11, 8, 10, 400], [11, 12, 10, 11, 500]]


# --- forms that are accepted -------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\n".join([HEADER, *ROWS]),
        "\r\n".join([HEADER, *ROWS, ""]),
        "\r".join([HEADER, *ROWS, ""]),
        "\ufeff" + "\n".join([HEADER, *ROWS, ""]),
        "\n\n" + "\n\n".join([HEADER, *ROWS, "   ", ""]),
        "\n".join([HEADER, *reversed(ROWS)]),
        "\n".join([HEADER, *(row.replace(",", " , ") for row in ROWS)]),
        "\n".join([HEADER, *('"' + row.replace(",", '","') + '"' for row in ROWS)]),
        "\n".join([HEADER.upper(), *ROWS]),
        "\n".join([HEADER.title().replace(",", " , "), *ROWS]),
        "\n".join(["note," + HEADER, *('"two\nlines, quoted",' + row for row in ROWS)]),
        "\n".join([HEADER + ",Open Interest", *(row + ",n/a" for row in ROWS)]),
        "\n".join([HEADER, *(row.replace("-", "") for row in ROWS)]),
        "\n".join([HEADER, *(row.replace(",AAA", "T16:00:00,AAA") for row in ROWS)]),
        "\n".join([HEADER, *(row.replace(",AAA", " 00:00:00-05:00,AAA") for row in ROWS)]),
        "\n".join([HEADER, *(row.replace(",AAA", "T23:59:59.999999999Z,AAA") for row in ROWS)]),
        "\n".join([HEADER, *ROWS]).replace("10.4,", "1.04e1,"),
    ],
    ids=[
        "plain",
        "crlf",
        "cr",
        "bom",
        "blank lines",
        "shuffled",
        "blanks",
        "quoted",
        "upper",
        "title",
        "newline in value",
        "extra",
        "compact dates",
        "time",
        "offset",
        "utc",
        "exponent",
    ],
)
def test_csv_forms(tmp_path, text):
    path = tmp_path / "prices.csv"
    path.write_bytes(text.encode())
    same(load_prices(path).table, expected())
    zipped = tmp_path / "prices.CSV.GZ"
    zipped.write_bytes(gzip.compress(text.encode(), mtime=0))
    same(load_prices(zipped).table, expected())


def test_newlines_in_values_of_a_file_read_in_blocks(tmp_path):
    # 3 MB, where Arrow reads 1 MB at a time: some boundary falls inside the quotes
    note = "x\n" * 500
    rows = [f'2020-01-02,S{n},1,1,1,1,1,"{note}"' for n in range(3000)]
    path = write_csv(tmp_path / "a.csv", *rows, header=f"{HEADER},note")
    assert len(load_prices(path).table) == 3000


@pytest.mark.parametrize("title", ["adj_close", "Adj Close", " ADJ-CLOSE ", "Adj  close"])
def test_adjusted_close_in_any_spelling(tmp_path, title):
    path = write_csv(tmp_path / "a.csv", "2020-01-02,AAA,4,4,4,4,100,2", header=f"{HEADER},{title}")
    assert load_prices(path).table.iloc[0, 2:].tolist() == [2, 2, 2, 2, 200]


NEW_YORK = pa.timestamp("us", "America/New_York")
MIDNIGHTS = [datetime(2020, 1, 2, 5), datetime(2020, 1, 3, 5)]  # midnight in New York, in UTC
DECIMALS = {
    column: pa.array([Decimal(str(value)) for value in as_columns()[column]], pa.decimal128(9, 4))
    for column in COLUMNS[2:]
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"symbol": pa.array(["AAA", "AAA"]).dictionary_encode()},
        {"symbol": pa.array(["AAA", "AAA"], pa.large_string())},
        {"symbol": pa.array([b"AAA", b"AAA"], pa.binary())},
        {"date": ["2020-01-02", "2020-01-03"]},
        {"date": pa.array(["2020-01-02", "2020-01-03"]).dictionary_encode()},
        {"date": pa.array([20200102, 20200103], pa.int32())},
        {"date": pa.array([datetime(2020, 1, 2, 16), datetime(2020, 1, 3, 16)])},
        {"date": pa.array(MIDNIGHTS, NEW_YORK)},
        {"volume": pa.array([100, 200], pa.int64())},
        {"volume": pa.array([100, 200], pa.float32())},
        {"volume": pa.array([100, 200], pa.uint16())},
        {"close": ["10.4", "12.1"]},
        DECIMALS,
        {"Extra": [[1], [2]]},
    ],
)
def test_parquet_forms(tmp_path, changes):
    path = write_parquet(tmp_path / "prices.parquet", as_columns(**changes))
    same(load_prices(path).table, expected())


def test_float32_prices_are_widened_exactly(tmp_path):
    changes = {column: pa.array(as_columns()[column], pa.float32()) for column in COLUMNS[2:]}
    table = load_prices(write_parquet(tmp_path / "a.parquet", as_columns(**changes))).table
    assert table["close"].tolist() == [float(np.float32(10.4)), float(np.float32(12.1))]


@pytest.mark.parametrize("index", ["date", "Date", None, ["symbol", "date"]])
def test_parquet_with_dates_in_the_index_of_pandas(tmp_path, index):
    frame = expected().set_index(index if isinstance(index, list) else "date")
    if not isinstance(index, list):
        frame.index.name = index
    frame.astype({"symbol": "category"} if "symbol" in frame else {}).to_parquet(
        tmp_path / "a.parquet"
    )
    same(load_prices(tmp_path / "a.parquet").table, expected())


def test_parquet_is_known_by_its_first_bytes(tmp_path):
    path = write_parquet(tmp_path / "prices.dat", as_columns())
    same(load_prices(path).table, expected())


def test_dates_before_1970_are_rounded_down(tmp_path):
    moments = [datetime(1969, 12, 31, 23, 59, 59, 500_000), datetime(1970, 1, 1)]
    path = write_parquet(tmp_path / "a.parquet", as_columns(date=pa.array(moments)))
    assert load_prices(path).table["date"].astype(str).tolist() == ["1969-12-31", "1970-01-01"]


def test_summer_and_winter_time_are_one_zone(tmp_path):
    rows = [
        "2020-01-02 00:00:00-05:00,AAA,1,1,1,1,1",
        "2020-07-02 00:00:00-04:00,AAA,1,1,1,1,1",
    ]
    table = load_prices(write_csv(tmp_path / "a.csv", *rows)).table
    assert table["date"].astype(str).tolist() == ["2020-01-02", "2020-07-02"]
    # the same zone by name, in another file
    moment = pa.array([datetime(2020, 8, 3, 4), datetime(2020, 12, 3, 5)], NEW_YORK)
    write_parquet(tmp_path / "b.parquet", as_columns(date=moment))
    assert len(load_prices(tmp_path).table) == 4


def test_symbols_stay_text(tmp_path):
    names = ["007", "1e5", "FALSE", "NA", "NULL", "None", "TRUE", "nan", "ÅÄÖ"]
    rows = [f"2020-01-02,{name},1,1,1,1,1" for name in reversed(names)]
    csv_table = load_prices(write_csv(tmp_path / "a.csv", *rows)).table
    assert csv_table["symbol"].tolist() == names
    columns = {
        column: ["2020-01-02"] * 9 if column == "date" else [1.0] * 9 for column in COLUMNS
    } | {"symbol": names}
    same(load_prices(write_parquet(tmp_path / "a.parquet", columns)).table, csv_table)


def test_whole_number_symbols_of_parquet_become_text(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", as_columns(symbol=[7, 7]))
    assert load_prices(path).table["symbol"].tolist() == ["7", "7"]


def test_open_and_close_may_miss_the_range_by_rounding(tmp_path):
    path = write_csv(tmp_path / "a.csv", "2020-01-02,A,10.000000001,10,9,8.999999999,1")
    assert len(load_prices(path).table) == 1


@st.composite
def partitions(draw: st.DrawFn) -> list[tuple[str, list[dict[str, object]]]]:
    """Return shuffled rows of prices dealt out to files of either format."""
    size = draw(st.integers(1, 12))
    keys = draw(
        st.lists(
            st.tuples(st.sampled_from(["NA", "B", "a", "Ä", "007"]), st.integers(0, 40)),
            min_size=size,
            max_size=size,
            unique=True,
        )
    )
    price = st.floats(1e-3, 1e6)
    rows = []
    for symbol, day in keys:
        low, one, other, high = sorted(draw(st.tuples(price, price, price, price)))
        rows.append(
            {
                "date": str(date.fromordinal(730_000 + day)),
                "symbol": symbol,
                "open": one,
                "high": high,
                "low": low,
                "close": other,
                "volume": float(draw(st.integers(0, 10**12))),
                "adj_close": draw(price),
            }
        )
    rows = draw(st.permutations(rows))
    cut = draw(st.integers(0, size - 1))
    pieces = [piece for piece in (rows[:cut], rows[cut:]) if piece]
    return [(draw(st.sampled_from(["csv", "csv.gz", "parquet"])), piece) for piece in pieces]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(partitions())
def test_order_partition_and_format_do_not_matter(pieces):
    with tempfile.TemporaryDirectory() as folder:
        for number, (ending, rows) in enumerate(pieces):
            path = Path(folder) / f"{number}.{ending}"
            frame = pd.DataFrame(rows)
            if ending == "parquet":
                frame.to_parquet(path)
            else:
                frame.to_csv(path, index=False)
        table = load_prices(folder).table
    # an independent oracle, straight from the definition
    frame = pd.DataFrame([row for _, rows in pieces for row in rows])
    frame = frame.sort_values(["symbol", "date"], ignore_index=True)
    factor = frame.pop("adj_close") / frame["close"]
    frame[COLUMNS[2:6]] = frame[COLUMNS[2:6]].mul(factor, axis=0)
    frame["volume"] /= factor
    same(table, frame.astype({"date": "datetime64[s]", "symbol": "str"}))


# --- finding and opening -----------------------------------------------------------------------


def test_folder_reads_every_format_but_nothing_hidden_or_below(tmp_path):
    write_csv(tmp_path / "a.CSV", "2020-01-02,A,1,1,1,1,1")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.CSV").read_bytes()))
    write_csv(tmp_path / "c.csv", "2020-01-02,C,1,1,1,1,1")
    write_parquet(tmp_path / "d.Parquet", as_columns())
    write_csv(tmp_path / ".hidden.csv", "2020-01-02,H,1,1,1,1,1")
    (tmp_path / "notes.txt").write_text("no prices")
    (tmp_path / "old.csv").mkdir()
    write_csv(tmp_path / "old.csv" / "e.csv", "2020-01-02,E,1,1,1,1,1")
    with open_prices(tmp_path) as files:
        assert [path.name for path in files.paths] == ["a.CSV", "b.csv.gz", "c.csv", "d.Parquet"]
        assert files.names == tuple(map(str, files.paths))
    (tmp_path / "b.csv.gz").unlink()
    assert load_prices(tmp_path).table["symbol"].unique().tolist() == ["A", "AAA", "C"]


def test_glob(tmp_path, monkeypatch):
    for name in ("a1", "a2", "b1"):
        write_csv(tmp_path / f"{name}.csv", f"2020-01-02,{name},1,1,1,1,1")
    assert load_prices(f"{tmp_path}/a*.csv").table["symbol"].tolist() == ["a1", "a2"]
    monkeypatch.chdir(tmp_path)
    assert load_prices("?1.csv").table["symbol"].tolist() == ["a1", "b1"]


def test_a_file_may_look_like_a_glob_or_like_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(Path("prices[1].csv"), *ROWS)
    same(load_prices("prices[1].csv").table, expected())
    write_csv(Path("sample"), *ROWS)
    same(load_prices("./sample").table, expected())
    same(load_prices(Path("sample")).table, expected())
    assert len(load_prices("sample").table) == 12_154


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_csv(tmp_path / "a.csv", *ROWS)
    same(load_prices("~/a.csv").table, expected())


def test_path_that_does_not_exist_names_the_nearest(tmp_path):
    write_csv(tmp_path / "prices.csv", *ROWS)
    text = refusal(tmp_path / "pricse.csv")
    assert "does not exist" in text
    assert f"nearest in {tmp_path}: prices.csv" in text
    assert "holds prices.csv" in refusal(tmp_path / "zzz" / "deeper.parquet")


def test_glob_and_folder_that_match_nothing(tmp_path):
    assert "holds no prices" in refusal(f"{tmp_path}/*.csv")
    assert "it holds no files" in refusal(tmp_path)
    (tmp_path / "a.xlsx").write_text("x")
    text = refusal(tmp_path)
    assert "has no .csv, .csv.gz, .parquet file in it (it holds a.xlsx)" in text


@pytest.mark.parametrize("source", ["", "  "])
def test_nothing_given(source):
    assert "prices is empty" in refusal(source)


def test_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file nor a folder" in refusal(tmp_path / "pipe")


def test_name_the_system_refuses(tmp_path):
    assert "too long" in refusal(tmp_path / ("x" * 5000)).lower()
    assert "cannot be opened" in refusal("~no-such-user-here/prices.csv")


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Return a function that gives up root's right to read everything, for this test."""
    is_root = os.geteuid() == 0
    yield lambda: os.seteuid(65534) if is_root else None
    if is_root:
        os.seteuid(0)


def test_file_that_may_not_be_read(as_nobody):
    with tempfile.TemporaryDirectory() as folder:
        path = write_csv(Path(folder) / "a.csv", *ROWS)
        path.chmod(0)
        Path(folder).chmod(0o755)
        as_nobody()
        with open_prices(path) as files, pytest.raises(PriceError, match="allow this user"):
            files.fingerprint()
        text = refusal(path)
        if os.getuid() == 0:
            os.seteuid(0)
    assert "access is denied — allow this user to read the file" in text


def test_folder_that_may_not_be_listed(as_nobody):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "inner").mkdir(mode=0)
        Path(folder).chmod(0o755)
        as_nobody()
        text = refusal(Path(folder) / "inner")
        if os.getuid() == 0:
            os.seteuid(0)
    assert "Permission denied" in text


# --- remote ------------------------------------------------------------------------------------


class QuietHandler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/forbidden"):
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder over HTTP on loopback; return its address and the folder."""
    root = tmp_path / "web"
    root.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", root
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_url(web, ending):
    address, root = web
    path = root / f"prices.{ending}"
    if ending == "parquet":
        write_parquet(path, as_columns())
    else:
        write_csv(path, *ROWS)
    if ending == "csv.gz":
        path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    with open_prices(f"{address}/prices.{ending}") as files:
        local = files.paths[0]
        path.unlink()  # what was fetched is read, whatever becomes of the source
        assert files.names == (f"{address}/prices.{ending}",)
        same(read_prices(files).table, expected())
    assert not local.exists()


def test_url_is_fetched_anew_each_time(web):
    address, root = web
    write_csv(root / "a.csv", *ROWS)
    assert len(load_prices(f"{address}/a.csv").table) == 2
    write_csv(root / "a.csv", *ROWS, "2020-01-06,AAA,1,1,1,1,1")
    assert len(load_prices(f"{address}/a.csv").table) == 3


def test_folder_of_a_web_server(web):
    address, root = web
    for name in ("a", "b"):
        write_csv(root / f"{name}.csv", f"2020-01-02,{name},1,1,1,1,1")
    (root / "readme.txt").write_text("x")
    with open_prices(f"{address}/") as files:
        assert files.names == (f"{address}/a.csv", f"{address}/b.csv")
        assert read_prices(files).table["symbol"].tolist() == ["a", "b"]
    assert load_prices(f"{address}/*.csv").table["symbol"].tolist() == ["a", "b"]
    assert "matches no file" in refusal(f"{address}/*.parquet")


def test_secrets_of_a_url_stay_out_of_names_and_reports(web):
    address, root = web
    write_csv(root / "a.csv", "2020-01-02,AAA,abc,1,1,1,1")
    url = address.replace("//", "//me:passw0rd@") + "/a.csv?signature=s3cret"
    with open_prices(url) as files:
        assert files.names == (f"{address}/a.csv?…",)
    for text in (refusal(url), refusal(url.replace("a.csv", "none.csv"))):
        assert text.startswith(address)
        assert "passw0rd" not in text
        assert "s3cret" not in text


def test_url_that_is_not_there(web):
    address, _ = web
    assert refusal(f"{address}/none.csv") == (
        f"{address}/none.csv cannot be opened: there is no such file — check the address"
    )
    assert "the server answered 403" in refusal(f"{address}/forbidden.csv")


def test_url_whose_server_is_down():
    text = refusal("http://127.0.0.1:1/prices.csv")
    assert "Cannot connect to host 127.0.0.1:1" in text
    assert "check the address" in text


def test_protocol_that_is_not_known():
    assert "Protocol not known: nosuch" in refusal("nosuch://bucket/prices.csv")


def test_protocol_whose_package_is_missing():
    name = "needs-a-package"
    fsspec.register_implementation(name, "not_installed_here.Files", errtxt="Install that_package")
    text = refusal(f"{name}://bucket/prices.csv")
    assert "Install that_package" in text
    assert "with pip" in text


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    """Return an empty remote file system that can list, as s3:// can."""
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/bucket", recursive=True)


def test_remote_folder_and_glob(bucket):
    for name in ("a.csv", "b.csv", ".c.csv", "deep/d.csv", "notes.txt"):
        text = f"{HEADER}\n2020-01-02,{name},1,1,1,1,1\n"
        bucket.pipe_file(f"/bucket/{name}", text.encode())
    with open_prices("memory://bucket") as files:
        assert files.names == ("memory:///bucket/a.csv", "memory:///bucket/b.csv")
        assert read_prices(files).table["symbol"].tolist() == ["a.csv", "b.csv"]
    assert load_prices("memory://bucket/?.csv").table["symbol"].tolist() == ["a.csv", "b.csv"]
    assert load_prices("memory://bucket/b.csv").table["symbol"].tolist() == ["b.csv"]
    assert "matches no file" in refusal("memory://bucket/*.parquet")
    assert "there is no such file" in refusal("memory://bucket/none")


def test_file_url(tmp_path):
    path = write_csv(tmp_path / "a.csv", *ROWS)
    same(load_prices(path.as_uri()).table, expected())


# --- fingerprint -------------------------------------------------------------------------------


def fingerprint(source: str | Path) -> str:
    with open_prices(source) as files:
        return files.fingerprint()


def test_fingerprint_depends_on_content_alone(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    write_csv(tmp_path / "one" / "a.csv", ROWS[0])
    write_csv(tmp_path / "one" / "b.csv", ROWS[1])
    write_csv(tmp_path / "two" / "x.csv", ROWS[1])
    write_csv(tmp_path / "two" / "y.csv", ROWS[0])
    first = fingerprint(tmp_path / "one")
    assert len(first) == 64
    assert fingerprint(tmp_path / "two") == first
    assert fingerprint(tmp_path / "one" / "a.csv") != first
    write_csv(tmp_path / "two" / "y.csv", ROWS[0][:-1] + "1")
    assert fingerprint(tmp_path / "two") != first


def test_fingerprint_counts_copies_and_keeps_files_apart(tmp_path):
    write_csv(tmp_path / "a.csv", *ROWS)
    one = fingerprint(tmp_path)
    write_csv(tmp_path / "b.csv", *ROWS)
    assert fingerprint(tmp_path) != one


# --- refusals: the file as a whole -------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_empty_file(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.touch()
    assert refusal(path).startswith(f"{path} cannot be used: 1 problem\n  the file is empty")


def test_blank_lines_only(tmp_path):
    (tmp_path / "a.csv").write_text("\n \n\n")
    assert "blank lines only" in refusal(tmp_path / "a.csv")


def test_header_only(tmp_path):
    assert "columns but no rows" in refusal(write_csv(tmp_path / "a.csv"))
    nothing = {column: pa.array([], pa.string()) for column in COLUMNS}
    assert "columns but no rows" in refusal(write_parquet(tmp_path / "a.parquet", nothing))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"not parquet at all", "is it Parquet, and complete?"),
        ("a.parquet", b"PAR1" + b"\0" * 40 + b"PAR1", "cannot be read"),
        ("a.csv", b"\x00\x01\x02\x03" * 9, "zero bytes"),
        ("a.csv", f"{HEADER}\n{ROWS[0]}\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("a.csv", f"{HEADER}\n{ROWS[0]}\n2020,Ä\n".encode("latin-1"), "line 3 is not UTF-8"),
        ("a.csv.gz", gzip.compress(b"date,symbol" * 99, mtime=0)[:-9], "end-of-stream"),
        ("a.csv.gz", b"\x1f\x8b garbage, no gzip", "cannot be read"),
        ("a.csv.gz", b"\x93\x94 garbage", "line 1 is not UTF-8"),
        ("a.csv", f'{HEADER}\n"2020-01-02,AAA,1,1,1,1,1\n'.encode(), "cannot be"),
    ],
)
def test_unreadable_file(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    text = refusal(tmp_path / name)
    assert text.startswith(f"{tmp_path / name} cannot be used: 1 problem\n")
    assert said in text


def test_truncated_parquet(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", as_columns())
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read" in refusal(path)


def test_file_gone_between_finding_and_reading(tmp_path):
    files = PriceFiles((tmp_path / "gone.csv",), ("gone.csv",))
    with pytest.raises(PriceError, match=r"gone\.csv cannot be used: 1 problem"):
        read_prices(files)


# --- refusals: columns -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("date,ticker,open,high,low,close,volume", "symbol is missing — rename 'ticker' to symbol"),
        ("Timestamp,symbol,open,high,low,close,volume", "rename 'Timestamp' to date"),
        (",symbol,open,high,low,close,volume", "column date is missing, there are ''"),
        ("date,symbol,open,high,low,close,volumes", "rename 'volumes' to volume"),
        ("date,symbol,open,high,low,close,x", "column volume is missing, there are 'date'"),
        ("date,symbol,Open,open ,high,low,close,volume", "column open is there 2 times"),
        (f"{HEADER},Adjusted Close", "'Adjusted Close' looks like adj_close"),
        ("date;symbol;open;high;low;close;volume", "commas instead of ';'"),
        ("date\tsymbol\topen\thigh\tlow\tclose\tvolume", r"commas instead of '\t'"),
        ("<!DOCTYPE html>", "the first line is '<!DOCTYPE html>', not the titles date,symbol,open"),
    ],
)
def test_columns_missing_or_twice(tmp_path, header, said):
    row = ",".join(["2020-01-02", "AAA", *["1"] * 8][: header.count(",") + 1])
    text = refusal(write_csv(tmp_path / "a.csv", row, header=header))
    assert said in text
    table = {title: ["1"] for title in header.split(",")}
    if len(table) > 1:
        assert said in refusal(write_parquet(tmp_path / "a.parquet", table))


def test_every_missing_column_is_named_and_the_others_are_checked(tmp_path):
    path = write_csv(tmp_path / "a.csv", "yesterday,1,0", header="date,open,low")
    text = refusal(path)
    assert text.startswith(f"{path} cannot be used: 6 problems")
    for column in ("symbol", "high", "close", "volume"):
        assert f"column {column} is missing" in text
    assert "line 2, column date: 'yesterday' is not a date" in text
    assert "line 2, column low: 0.0 is not above zero" in text
    assert text.count("\n") == 6


def test_adjusted_in_one_file_only(tmp_path):
    write_csv(tmp_path / "a.csv", "2020-01-02,A,1,1,1,1,1,1", header=HEADER + ",adj_close")
    write_csv(tmp_path / "b.csv", "2020-01-02,B,1,1,1,1,1")
    text = refusal(tmp_path)
    assert text.startswith(f"{tmp_path / 'b.csv'} cannot be used")
    assert f"adj_close is missing here, but {tmp_path / 'a.csv'} has it" in text


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("date", [1.5, 2.5], "column date: it holds double, not dates"),
        ("symbol", [1.5, 2.5], "column symbol: it holds double, not text"),
        ("symbol", [True, False], "column symbol: it holds bool, not text"),
        ("close", [[1.0], [2.0]], "column close: it holds list"),
        ("volume", [date(2020, 1, 1)] * 2, "column volume: it holds date32[day], not numbers"),
        ("symbol", pa.array([b"\xff", b"A"], pa.binary()), "column symbol: Invalid UTF8"),
    ],
)
def test_column_of_a_wrong_type(tmp_path, column, values, said):
    path = write_parquet(tmp_path / "a.parquet", as_columns(**{column: values}))
    assert said in refusal(path)


# --- refusals: values --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("01/02/2020,A,1,1,1,1,1", "column date: '01/02/2020' is not a date in ISO form — write"),
        ("2020-02-30,A,1,1,1,1,1", "column date: '2020-02-30' is not a date"),
        ("2020-1-2,A,1,1,1,1,1", "column date: '2020-1-2' is not a date"),
        ("1577923200,A,1,1,1,1,1", "column date: '1577923200' is not a date"),
        ("202001021530,A,1,1,1,1,1", "column date: '202001021530' is not a date"),
        ("2020-01-02T25:00,A,1,1,1,1,1", "column date: '2020-01-02T25:00' is not a date"),
        (",A,1,1,1,1,1", "column date: the value is missing"),
        ("2020-01-02, ,1,1,1,1,1", "column symbol: the value is missing — write text such as AAPL"),
        ("2020-01-02,A,1,1,1,abc,1", "column close: 'abc' is not a number — write it as 12.34"),
        ('2020-01-02,A,1,1,1,1,"1,200"', "column volume: '1,200' is not a number — write it as 12"),
        ("2020-01-02,A,1,1,1,1_0,1", "column close: '1_0' is not a number"),
        ("2020-01-02,A,1,1,1,,1", "column close: the value is missing — write 12.34, or delete"),
        ("2020-01-02,A,1,NaN,1,1,1", "column high: the value is missing"),
        ("2020-01-02,A,1,N/A,1,1,1", "column high: the value is missing"),
        ("2020-01-02,A,1,inf,1,1,1", "column high: inf is infinite"),
        ("2020-01-02,A,1,1,1,1,-Infinity", "column volume: -inf is infinite"),
        ("2020-01-02,A,1,1e999,1,1,1", "column high: inf is infinite"),
        ("2020-01-02,A,1,1,0,1,1", "column low: 0.0 is not above zero"),
        ("2020-01-02,A,1,1,-1,1,1", "column low: -1.0 is not above zero"),
        ("2020-01-02,A,1,1,1,1,-5", "column volume: -5.0 is negative"),
        ("2020-01-02,A,1,1,2,1,1", "high 1.0 is below low 2.0 — correct or swap them"),
        ("2020-01-02,A,4,3,2,2,1", "column open: 4.0 is outside low 2.0 to high 3.0"),
        ("2020-01-02,A,2,3,2,1,1", "column close: 1.0 is outside low 2.0 to high 3.0"),
    ],
)
def test_value_that_cannot_be(tmp_path, row, said):
    path = write_csv(tmp_path / "a.csv", *ROWS, row)
    text = refusal(path)
    assert text.startswith(f"{path} cannot be used: 1 problem\n  line 4")
    assert said in text
    assert " — " in text


@pytest.mark.parametrize(
    ("adjusted", "said"),
    [
        ("0", "column adj_close: 0.0 is not above zero"),
        ("-1", "column adj_close: -1.0 is not above zero"),
        ("", "column adj_close: the value is missing"),
        ("x", "column adj_close: 'x' is not a number"),
        ("1e-320", "column adj_close: 1e-320 against a close of 1e+20 takes prices"),
    ],
)
def test_adjusted_close_that_cannot_be(tmp_path, adjusted, said):
    row = f"2020-01-02,A,1e20,1e20,1e20,1e20,1,{adjusted}"
    text = refusal(write_csv(tmp_path / "a.csv", row, header=HEADER + ",adj_close"))
    assert text.count("\n") == 1
    assert f"line 2, {said}" in text


def test_missing_and_infinite_values_of_parquet(tmp_path):
    changes = {
        "date": pa.array([None, date(2020, 1, 3)]),
        "symbol": pa.array(["AAA", None]),
        "close": [float("nan"), 12.1],
        "volume": [float("inf"), None],
    }
    text = refusal(write_parquet(tmp_path / "a.parquet", as_columns(**changes)))
    for said in (
        "row 1, column date: the value is missing",
        "row 2, column symbol: the value is missing",
        "row 1, column close: the value is missing",
        "row 1, column volume: inf is infinite",
        "row 2, column volume: the value is missing",
    ):
        assert said in text
    assert "5 problems" in text


def test_date_numbers_of_parquet_that_are_none(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", as_columns(date=[20201301, 1577923200]))
    text = refusal(path)
    assert "row 1, column date: 20201301 is not a date" in text
    assert "row 2, column date: 1577923200 is not a date" in text


def test_rows_of_another_width(tmp_path):
    path = write_csv(tmp_path / "a.csv", ROWS[0], "2020-01-03,AAA,1,200,1,1,1,1", "", "x,y")
    text = refusal(path)
    assert "line 3: 8 fields where the header has 7" in text
    assert "line 5: 2 fields where the header has 7" in text
    assert "2 problems" in text


def test_duplicate_within_a_file(tmp_path):
    path = write_csv(tmp_path / "a.csv", *ROWS, ROWS[0])
    assert refusal(path) == (
        f"{path} cannot be used: 1 problem\n"
        "  line 4: AAA on 2020-01-02 is also on line 2 — keep one row per symbol and day"
    )


def test_duplicate_across_files(tmp_path):
    one = write_csv(tmp_path / "a.csv", *ROWS)
    two = write_parquet(tmp_path / "b.parquet", as_columns(symbol=["BBB", "AAA"]))
    assert refusal(tmp_path) == (
        f"{two} cannot be used: 1 problem\n"
        f"  row 2: AAA on 2020-01-03 is also on line 3 of {one} — keep one row per symbol and day"
    )


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("2020-01-02T00:00Z", "2020-01-03", "no zone on line 3 and UTC+00:00 on line 2"),
        ("2020-01-02T00:00-05:00", "2020-01-03T00:00+09:00", "UTC+09:00 on line 3"),
        ("2020-01-02T00:00+05:30", "2020-01-03T00:00", "UTC+05:30 on line 2"),
        ("2020-01-02T00:00-05:00", "2020-01-03T00:00-03:00", "UTC-03:00 on line 3 and UTC-05:00"),
        # an hour apart on one date: no summer time explains that
        ("2020-01-02T00:00+00:00", "2020-01-02T00:00+01:00", "time zones are mixed"),
    ],
)
def test_mixed_time_zones(tmp_path, one, other, said):
    rows = [f"{one},A,1,1,1,1,1", f"{other},B,1,1,1,1,1"]
    text = refusal(write_csv(tmp_path / "a.csv", *rows))
    assert "column date: time zones are mixed" in text
    assert said in text
    (tmp_path / "split").mkdir()
    write_csv(tmp_path / "split" / "a.csv", rows[0])
    write_csv(tmp_path / "split" / "b.csv", rows[1])
    text = refusal(tmp_path / "split")
    assert "time zones are mixed" in text
    assert f"line 2 of {tmp_path / 'split' / 'a.csv'}" in text


def test_lines_are_those_of_the_file(tmp_path):
    text = f'\n\nnote,{HEADER}\n"a\nb",{ROWS[0]}\n\n"c, ""d""\n\ne",{ROWS[1]}\n'
    text += "f,2020-01-06,A,x,1,1,1,1"
    (tmp_path / "a.csv").write_text(text, newline="")
    assert "  line 10, column open: 'x'" in refusal(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(text.replace("\n", "\r\n"), newline="")
    assert "  line 10, column open: 'x'" in refusal(tmp_path / "a.csv")


def test_report_collects_all_problems_of_all_files(tmp_path):
    one = write_csv(tmp_path / "a.csv", "x,A,abc,1,1,1,1", "2020-01-03,A,1,1,2,1,-1")
    two = write_csv(tmp_path / "b.csv")
    text = refusal(tmp_path)
    assert text.split("\n") == [
        f"{one} cannot be used: 4 problems",
        "  line 2, column date: 'x' is not a date in ISO form — write it as 2020-01-31 or 20200131",
        "  line 2, column open: 'abc' is not a number — write it as 12.34",
        "  line 3, column volume: -1.0 is negative — write the shares traded, 0 for none",
        "  line 3: high 1.0 is below low 2.0 — correct or swap them",
        f"{two} cannot be used: 1 problem",
        "  the file has columns but no rows — is it complete? Write or download it again",
    ]


def test_ten_of_a_kind_are_shown_the_rest_counted(tmp_path):
    rows = [f"2020-01-{day:02d},A,x,9,1,y,-1" for day in range(1, 32)]
    text = refusal(write_csv(tmp_path / "a.csv", *rows, *rows))
    assert "cannot be used: 217 problems" in text
    assert text.count("is not a number") == 10
    assert "line 6, column open: 'x'" in text
    assert "line 7, column" not in text.split("not a number\n")[0]
    assert "and 114 more: not a number" in text
    assert text.count("is negative") == 10
    assert "and 52 more: negative volume" in text
    assert text.count("is also on") == 10
    assert "and 21 more: duplicate" in text


# --- short series ------------------------------------------------------------------------------


def test_short_symbols_are_dropped_and_counted(tmp_path):
    path = write_csv(tmp_path / "a.csv", *ROWS, "2020-01-02,ZZ,1,1,1,1,1")
    prices = load_prices(path, min_rows=2)
    assert prices.dropped == {"ZZ": 1}
    same(prices.table, expected())
    assert load_prices(path).dropped == {}


def test_no_symbol_long_enough(tmp_path):
    path = write_csv(tmp_path / "a.csv", *ROWS, "2020-01-02,ZZ,1,1,1,1,1")
    assert refusal(path, min_rows=1000) == (
        "no symbol has the 1,000 rows that are needed: AAA has 2 rows, ZZ has 1 row"
        " — give longer series"
    )
