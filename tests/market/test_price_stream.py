"""Prices larger than memory: the same table and the same refusals as when read at once."""

import gzip
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps.market import price_stream, price_tables
from steps.market.price_report import Problems
from steps.market.price_stream import open_price_stream
from steps.market.price_tables import read_batches
from steps.market.prices import PriceError, PriceFiles, open_prices, read_prices

ROOT = Path(__file__).resolve().parents[2]
HEADER = "date,symbol,open,high,low,close,volume"
GOOD = "2020-01-02,AAA,1,1,1,1,1"
NUMBERS = HEADER.split(",")[2:]
ONE = {
    "date": [date(2020, 1, 2)],
    "symbol": ["A"],
    **{column: [1.0] for column in NUMBERS},
}


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def streamed(source: str | Path, rows: int = 1) -> pd.DataFrame:
    with open_prices(source) as files, open_price_stream(files) as stream:
        return pd.concat(stream.tables(rows), ignore_index=True)


def at_once(source: str | Path) -> pd.DataFrame:
    with open_prices(source) as files:
        return read_prices(files).table


# --- the same table ----------------------------------------------------------------------------


def test_pieces_of_the_sample_are_whole_symbols_and_together_the_table():
    whole = at_once("sample")
    with open_prices("sample") as files, open_price_stream(files) as stream:
        for rows in (1, 3_270, 3_270, 5_614, 200_000):
            pieces = list(stream.tables(rows))
            same(pd.concat(pieces, ignore_index=True), whole)
            symbols = [set(piece["symbol"]) for piece in pieces]
            assert sum(map(len, symbols)) == 5
            for piece, held in zip(pieces, symbols, strict=True):
                assert len(piece) <= rows or len(held) == 1
                assert isinstance(piece.index, pd.RangeIndex)
                assert piece.index.start == 0
                assert piece.dtypes.equals(whole.dtypes)
    assert (stream.rows, stream.symbols) == (len(whole), 5)
    assert (stream.first_date, stream.last_date) == (date(2000, 3, 1), date(2013, 3, 1))


def test_pieces_are_as_long_as_they_may_be():
    with open_prices("sample") as files, open_price_stream(files) as stream:
        assert [len(piece) for piece in stream.tables(6_000)] == [5614, 3270, 3270]


def test_sorted_files_are_not_sorted_again(tmp_path, monkeypatch):
    whole = at_once("sample")
    for number, symbol in enumerate(sorted(set(whole["symbol"]))):
        rows = whole[whole["symbol"] == symbol]
        rows[:100].to_parquet(tmp_path / f"{number}a.parquet", index=False, row_group_size=300)
        rows[100:].to_csv(tmp_path / f"{number}b.csv", index=False)
    monkeypatch.setattr(price_stream, "_in_order", None)
    same(streamed(tmp_path), whole)
    monkeypatch.undo()
    (tmp_path / "0a.parquet").rename(tmp_path / "5a.parquet")
    same(streamed(tmp_path), whole)


def test_pieces_without_the_symbols_that_are_too_short():
    whole = at_once("sample")
    sizes = whole["symbol"].value_counts().to_dict()
    assert sizes["GOOG"] > sizes["FB"] == min(sizes.values())
    with open_prices("sample") as files, open_price_stream(files) as stream:
        assert stream.too_short(1) == {}
        assert stream.too_short(sizes["GOOG"]) == {"FB": sizes["FB"]}
        for rows in (1, 6_000, 200_000):
            pieces = stream.pieces(rows, min_rows=sizes["GOOG"])
            read = pd.concat([piece.read() for piece in pieces], ignore_index=True)
            same(read, whole[whole["symbol"] != "FB"].reset_index(drop=True))
        with pytest.raises(PriceError, match=r"the 9,999 rows .* AAPL has 3,270 rows"):
            stream.too_short(9_999)


def test_symbols_evenly_spread():
    whole = at_once("sample")
    with open_prices("sample") as files, open_price_stream(files) as stream:
        for most, chosen in ((9, 5), (5, 5), (3, ["AAPL", "GOOG", "MSFT"]), (1, ["AAPL"])):
            wanted = whole if chosen == 5 else whole[whole["symbol"].isin(chosen)]
            same(stream.spread(most, min_rows=1), wanted.reset_index(drop=True))
        long = stream.spread(9, min_rows=3_000)
        same(long, whole[~whole["symbol"].isin(["FB", "GOOG"])].reset_index(drop=True))


prices = st.floats(1e-3, 1e6)
names = st.sampled_from(["NA", "B", "b", "Ä", "A\u0308", "é", "z", "ﬀ", "🕯", "007"]) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zs", "Zl", "Zp"]), min_size=1
)


@st.composite
def folders(draw: st.DrawFn) -> list[tuple[str, pd.DataFrame]]:
    """Return shuffled rows of valid prices dealt out to files: their endings and contents."""
    days = st.integers(0, 20)
    keys = draw(st.lists(st.tuples(names, days), min_size=1, max_size=25, unique=True))
    seed = np.random.default_rng(draw(st.integers(0, 2**32)))
    low, one, other, high = np.sort(10 ** seed.uniform(-3, 6, (4, len(keys))), axis=0)
    frame = pd.DataFrame(
        {
            "date": [str(date(2019, 12, 20) + timedelta(days=day)) for _, day in keys],
            "symbol": [symbol for symbol, _ in keys],
            "open": one,
            "high": high,
            "low": low,
            "close": other,
            "volume": seed.integers(0, 10**12, len(keys)),
        }
    )
    if draw(st.booleans()):
        frame["adj_close"] = 10 ** seed.uniform(-3, 6, len(keys))
    frame = frame.sample(frac=1, random_state=draw(st.integers(0, 99)))
    cuts = np.sort(draw(st.lists(st.integers(1, len(keys)), max_size=3, unique=True)))
    pieces = np.split(np.arange(len(keys)), cuts)
    endings = st.sampled_from(["csv", "csv.gz", "parquet"])
    return [(draw(endings), frame.iloc[piece]) for piece in pieces if len(piece)]


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(folders())
def test_any_files_give_the_table_of_reading_them_at_once(pieces):
    with tempfile.TemporaryDirectory() as folder:
        for number, (ending, frame) in enumerate(pieces):
            path = Path(folder) / f"{number}.{ending}"
            if ending == "parquet":
                frame.to_parquet(path)
            else:
                frame.to_csv(path, index=False, quoting=number % 2)
        whole = at_once(folder)
        with open_prices(folder) as files, open_price_stream(files) as stream:
            for rows in (1, 6, 1000):
                same(pd.concat(stream.tables(rows), ignore_index=True), whole)
            assert stream.rows == len(whole)
            assert stream.symbols == whole["symbol"].nunique()
            assert stream.first_date == whole["date"].min().date()
            assert stream.last_date == whole["date"].max().date()


def test_symbols_are_sorted_by_code_point_and_never_folded(tmp_path):
    ordered = ["A", "A\u0308", "A\u0308x", "Z", "a", "Ä", "é", "Ω", "ﬀ", "\uffee", "🕯"]
    assert ordered == sorted(ordered)
    rows = [f"2020-01-02,{name},1,1,1,1,1" for name in reversed(ordered)]
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *rows]), encoding="utf-8")
    assert streamed(tmp_path / "a.csv")["symbol"].tolist() == ordered
    same(streamed(tmp_path / "a.csv"), at_once(tmp_path / "a.csv"))


def test_a_symbol_of_parquet_may_hold_any_character_to_be_seen(tmp_path):
    symbols = ["A", "A!", "A!B", "A B", "\ue000"]
    table = {column: values * 5 for column, values in ONE.items()} | {"symbol": symbols}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    same(streamed(tmp_path / "a.parquet"), at_once(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    "text",
    [
        "\r\n".join([HEADER, GOOD, ""]),
        "\r".join([HEADER, GOOD, GOOD.replace("AAA", "B")]),
        "\ufeff\n \n" + "\n\n".join([HEADER, GOOD, "   ", ""]),
        "\n".join(["note," + HEADER, '"two\nlines, ""quoted""\r",' + GOOD]),
        "\n".join([HEADER, '"' + GOOD.replace(",", '" ,"') + '"']),
        "\n".join([HEADER, GOOD.replace(",AAA", "T23:59:59-05:00,Ä")]),
    ],
    ids=["crlf", "cr", "bom", "newline in value", "quoted", "offset"],
)
def test_csv_forms(tmp_path, text):
    for name, content in (("a.csv", text.encode()), ("a.csv.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(content)
        same(streamed(tmp_path / name), at_once(tmp_path / name))


@pytest.mark.slow
def test_files_read_in_several_batches(tmp_path):
    # 60,000 rows of Parquet, 3 MB of CSV with quoted line ends and wide characters at every edge
    size = 60_000
    days = np.datetime64("1960-01-01") + np.arange(size) // 3
    numbers = {name: np.linspace(1, 2, size) for name in NUMBERS}
    table = pa.table({"date": days, "symbol": ["c", "a", "b"] * (size // 3), **numbers})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7_000)
    note = "Ä🕯\n" * 500
    rows = [f'2020-01-02,S{n},1,1,1,1,1,"{note}"' for n in range(1000)]
    text = "\n".join([f"{HEADER},note", *rows])
    (tmp_path / "b.csv").write_text(text, encoding="utf-8")
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(text.replace(",S", ",T").encode(), 1))
    same(streamed(tmp_path, rows=25_000), at_once(tmp_path))


def test_summer_and_winter_time_are_one_zone_across_batches_and_files(tmp_path):
    rows = [
        "2020-01-02 00:00:00-05:00,AAA,1,1,1,1,1",
        "2020-07-02 00:00:00-04:00,AAA,1,1,1,1,1",
    ]
    for number, row in enumerate(rows):
        (tmp_path / f"{number}.csv").write_text(f"{HEADER}\n{row}")
    moment = pa.array([datetime(2020, 8, 3, 4)], pa.timestamp("us", "America/New_York"))
    pq.write_table(pa.table(ONE | {"date": moment}), tmp_path / "b.parquet")
    same(streamed(tmp_path), at_once(tmp_path))


# --- the same refusals -------------------------------------------------------------------------

CSV = {
    "empty": b"",
    "blank lines": b"\n \n\n",
    "an empty title": b'""\n',
    "header only": HEADER,
    "header and blank lines": f"{HEADER}\n  \n\n",
    "zero bytes": b"\x00\x01\x02\x03" * 9,
    "utf-16": f"{HEADER}\n{GOOD}".encode("utf-16"),
    "latin-1": f"{HEADER}\n{GOOD}\n2020,Ä\n".encode("latin-1"),
    "cut within a character": f"{HEADER}\n{GOOD}\n2020,Ä".encode()[:-1],
    "cut gzip": gzip.compress(f"{HEADER}\n{GOOD}".encode())[:-9],
    "no gzip": b"\x1f\x8b garbage, no gzip",
    "unclosed quote": f'{HEADER}\n"2020-01-02,AAA,1,1,1,1,1\n',
    "other title": f"date,ticker,open,high,low,close,volume\n{GOOD}",
    "title twice": f"{HEADER},Open\n{GOOD},1",
    "adjusted close by another name": f"{HEADER},Adjusted Close\n{GOOD},1",
    "semicolons": f"{HEADER}\n{GOOD}".replace(",", ";"),
    "rows of another width": f"{HEADER}\n{GOOD}\n2020-01-03,AAA,1,200,1,1,1,1\n\nx,y",
    "rows of another width only": f"{HEADER}\nx,y",
    "duplicate": f"{HEADER}\n{GOOD}\n2020-01-03,AAA,1,1,1,1,1\n{GOOD}",
    "mixed zones": f"{HEADER}\n{GOOD}\n2020-01-03T00:00Z,AAA,1,1,1,1,1",
    "an hour apart on one date": (
        f"{HEADER}\n2020-01-02T00:00+00:00,A,1,1,1,1,1\n2020-01-02T00:00+01:00,B,1,1,1,1,1"
    ),
    "many": "\n".join([HEADER, *[f"2020-01-{day:02d},A,x,9,1,y,-1" for day in range(1, 32)] * 2]),
    **{
        row: f"{HEADER}\n{GOOD}\n{row}\n"
        for row in (
            "01/02/2020,A,1,1,1,1,1",
            "2020-02-30,A,1,1,1,1,1",
            ",A,1,1,1,1,1",
            "2020-01-02, ,1,1,1,1,1",
            "2020-01-02,A,1,1,1,abc,1",
            '2020-01-02,A,1,1,1,1,"1,200"',
            "2020-01-02,A,1,1,1,,1",
            "2020-01-02,A,1,NaN,1,1,1",
            "2020-01-02,A,1,1,1,1,-Infinity",
            "2020-01-02,A,1,1,0,1,1",
            "2020-01-02,A,1,1,1,1,-5",
            "2020-01-02,A,1,1,2,1,1",
            "2020-01-02,A,4,3,2,2,1",
        )
    },
    **{
        f"adj_close {value!r}": f"{HEADER},adj_close\n2020-01-02,A,1e20,1e20,1e20,1e20,1,{value}"
        for value in ("0", "", "x", "1e-320")
    },
}
PARQUET = {
    "no parquet": b"not parquet at all",
    "garbage": b"PAR1" + b"\0" * 40 + b"PAR1",
    "no rows": {column: pa.array([], pa.string()) for column in ONE},
    "missing column": {"date": ONE["date"], "symbol": ["A"]},
    "dates of numbers": ONE | {"date": [1.5]},
    "dates that are none": ONE | {"date": [20201301]},
    "symbols of bools": ONE | {"symbol": [True]},
    "symbols of other bytes": ONE | {"symbol": pa.array([b"\xff"], pa.binary())},
    "prices of lists": ONE | {"close": [[1.0]]},
    "missing date": ONE | {"date": pa.array([None], pa.date32())},
    "missing volume": ONE | {"volume": pa.array([None], pa.float64())},
}


def write(path: Path, content: object) -> Path:
    if isinstance(content, dict):
        pq.write_table(pa.table(content), path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def assert_same_refusal(files: PriceFiles) -> None:
    with pytest.raises(PriceError) as at_once:
        read_prices(files)
    with pytest.raises(PriceError) as streamed, open_price_stream(files):
        pytest.fail("something is yielded")
    assert str(streamed.value) == str(at_once.value)


for_every_bad_file = pytest.mark.parametrize(
    ("ending", "content"),
    [("csv", content) for content in CSV.values()]
    + [("parquet", content) for content in PARQUET.values()],
    ids=[*CSV, *PARQUET],
)


@for_every_bad_file
def test_same_refusal_as_when_read_at_once(tmp_path, ending, content):
    bad = write(tmp_path / f"b.{ending}", content)
    assert_same_refusal(PriceFiles((bad,), ("bad",)))


@pytest.mark.slow
@for_every_bad_file
def test_same_refusal_after_a_file_that_is_fine(tmp_path, ending, content):
    bad = write(tmp_path / f"b.{ending}", content)
    fine = write(tmp_path / "a.csv", f"{HEADER}\n2019-01-02,ZZ,1,1,1,1,1")
    assert_same_refusal(PriceFiles((fine, bad, bad), ("fine", "bad", "worse")))


def test_file_that_is_gone(tmp_path):
    assert_same_refusal(PriceFiles((tmp_path / "gone.csv",), ("gone.csv",)))


def test_truncated_parquet(tmp_path):
    path = write(tmp_path / "a.parquet", ONE)
    path.write_bytes(path.read_bytes()[:-20])
    assert_same_refusal(PriceFiles((path,), ("a.parquet",)))


@pytest.mark.parametrize(
    "rows",
    [
        (GOOD, GOOD),
        (GOOD, "2020-01-03T00:00Z,B,1,1,1,1,1"),
        ("2020-01-02T00:00-05:00,A,1,1,1,1,1", "2020-01-02T00:00-04:00,B,1,1,1,1,1"),
    ],
    ids=["duplicate", "zone", "an hour apart"],
)
def test_rows_that_contradict_one_of_another_file(tmp_path, rows):
    paths = [write(tmp_path / f"{n}.csv", f"{HEADER}\n{row}") for n, row in enumerate(rows)]
    assert_same_refusal(PriceFiles(tuple(paths), ("one", "other")))


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_edges_of_sorted_batches_do_not_matter(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(price_stream, "_BATCH_ROWS", batch)
    rows = [f"2020-01-0{day},{symbol},1,1,1,1,1" for symbol in "BA" for day in (2, 3, 4)]
    path = write(tmp_path / "a.csv", "\n".join([HEADER, *rows]))
    same(streamed(path), at_once(path))
    for again in rows:
        write(path, "\n".join([HEADER, *rows, again]))
        assert_same_refusal(PriceFiles((path,), ("a.csv",)))


def test_adjusted_in_one_file_only(tmp_path):
    plain = write(tmp_path / "a.csv", f"{HEADER}\n{GOOD}")
    adjusted = write(tmp_path / "b.csv", f"{HEADER},adj_close\n2020-01-02,B,1,1,1,1,1,1")
    assert_same_refusal(PriceFiles((plain, adjusted), ("plain", "adjusted")))
    assert_same_refusal(PriceFiles((adjusted, plain), ("adjusted", "plain")))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["duplicate", "price", "zone", "text", "width"])
def test_one_bad_row_far_down(tmp_path, what):
    size = 50_000  # two batches
    good = [f"{date.fromordinal(700_000 + n)},A,1,1,1,1,1" for n in range(size)]
    bad = {
        "duplicate": good[5],
        "price": "2020-01-02,B,1,1,1,0,1",
        "zone": "2020-01-02T00:00Z,B,1,1,1,1,1",
        "text": "2020-01-02,\udcff,1,1,1,1,1",
        "width": "2020-01-02,B,1,1,1,1",
    }[what]
    text = "\n".join([HEADER, *good, bad])
    path = write(tmp_path / "a.csv", text.encode(errors="surrogateescape"))
    assert_same_refusal(PriceFiles((path,), ("a.csv",)))


def test_file_that_is_mended_while_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", f"{HEADER}\n{GOOD}\nx,A,1,1,1,1,1")

    def mend_then_read(files: PriceFiles) -> object:
        write(path, f"{HEADER}\n{GOOD}")
        return read_prices(files)

    monkeypatch.setattr(price_stream, "read_prices", mend_then_read)
    files = PriceFiles((path,), ("a.csv",))
    with (
        pytest.raises(PriceError, match=r"do not write to them.*'x' is not a date"),
        open_price_stream(files),
    ):
        pytest.fail("something is yielded")


# --- room --------------------------------------------------------------------------------------


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with open_prices("sample") as files, open_price_stream(files) as stream:
        next(stream.tables(1))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_no_room_to_sort(monkeypatch, tmp_path):
    monkeypatch.setattr(price_stream, "_MEMORY", "1MB")
    at_once("sample")[::-1].to_parquet(tmp_path / "a.parquet", index=False)
    with (
        open_prices(tmp_path) as files,
        pytest.raises(PriceError, match=r"cannot be sorted in .* set TMPDIR"),
        open_price_stream(files),
    ):
        pytest.fail("something is yielded")


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_who_is_stopped_while_sorting_stops(monkeypatch, tmp_path, stop):
    # In the second batch: the first is asked for before the sorter is there.
    monkeypatch.setattr(price_stream, "_BATCH_ROWS", 1000)
    parse, calls = price_stream.parse_file, []

    def parse_or_stop(raw, problems):
        calls.append(raw)
        if len(calls) == 3:
            raise stop("now")
        return parse(raw, problems)

    monkeypatch.setattr(price_stream, "parse_file", parse_or_stop)
    for name in ("a.csv", "b.csv", "c.csv"):
        days = pd.date_range("2020-01-01", periods=5).astype(str)[::-1]
        numbers = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
        pd.DataFrame({"date": days, "symbol": name, **numbers}).to_csv(tmp_path / name, index=False)
    with (
        pytest.raises(stop, match="now"),
        open_prices(tmp_path) as files,
        open_price_stream(files),
    ):
        pass


def test_starting_up_does_not_load_the_sorter():
    command = "import sys, steps.market.price_stream; sys.exit('duckdb' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)


@pytest.mark.parametrize("ending", ["whole", "left", "broken"])
def test_reading_ends_when_no_thread_has_anything_of_ours(tmp_path, monkeypatch, ending):
    # What one gives back later can fall into the end of the process, and aborts it.
    lent, done = [], threading.Event()
    make = price_tables._csv_options

    def lend(*given):
        options = make(*given)
        held = [options["parse_options"].invalid_row_handler]
        lent.append(weakref.ref(held[0]))
        threading.Thread(target=lambda: (done.wait(), time.sleep(0.3), held.clear())).start()
        return options

    monkeypatch.setattr(price_tables, "_csv_options", lend)
    path = tmp_path / "a.csv"
    lines = f"{HEADER}\n{f'{GOOD}{chr(10)}' * 60_000}".encode()
    path.write_bytes(lines + (b"\xff\n" if ending == "broken" else b""))
    batches = read_batches(path, "a", Problems())
    if ending != "broken":
        next(batches)
        assert lent[0]() is not None
    done.set()
    if ending == "left":
        batches.close()
    else:
        list(batches)
    assert lent[0]() is None


HELD = """
import sys, tracemalloc
from pathlib import Path
import pyarrow as pa
from steps.market.price_report import Problems
from steps.market.price_tables import read_batches
tracemalloc.start()
rows = sum(raw.rows for raw in read_batches(Path(sys.argv[1]), "a", Problems()))
print(rows, pa.default_memory_pool().max_memory() + tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_reading_holds_a_few_batches_alone(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    size = 120_000 if ending == "csv" else 2_500_000
    if ending == "csv":
        line = f'{GOOD},"{"x" * 998}"\n'
        write(path, f"{HEADER},note\n{line * size}")
    else:
        table = pa.table(dict.fromkeys(ONE, np.ones(size)))
        pq.write_table(table, path, row_group_size=size, compression="none", use_dictionary=False)
    assert path.stat().st_size > 120e6
    command = [sys.executable, "-c", HELD, str(path)]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows, held = map(int, ran.stdout.split())
    assert rows == size
    assert held < 80e6


PEAK = """
import resource, sys
from pathlib import Path
from steps.market import price_stream
from steps.market.prices import PriceFiles
price_stream._MEMORY = "64MB"
path = Path(sys.argv[1])
with price_stream.open_price_stream(PriceFiles((path,), (path.name,))) as stream:
    assert sum(map(len, stream.tables(50_000))) == stream.rows
print(stream.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    def peak(n_dates: int) -> int:
        """Return the bytes that 500 symbols need, written by date."""
        dates = np.datetime64("2000-01-01") + np.repeat(np.arange(n_dates), 500)
        symbols = np.tile([f"S{n}" for n in range(500)], n_dates)
        ones = dict.fromkeys(NUMBERS, np.ones(len(dates)))
        pq.write_table(pa.table({"date": dates, "symbol": symbols, **ones}), tmp_path / "a.parquet")
        command = [sys.executable, "-c", PEAK, str(tmp_path / "a.parquet")]
        ran = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        rows, kilobytes = map(int, ran.stdout.split())
        assert rows == 500 * n_dates
        return kilobytes * 1024

    # Of the rows that come on, with at least 60 bytes each, half would show.
    assert peak(4000) - peak(2000) < 500 * (4000 - 2000) * 60 / 2
