"""The snapshot's ID: equal for equal features, different for one changed bit."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.engines.local import map_in_order
from steps.market.build import build_part, build_snapshot, feature_key, ingredients
from steps.market.features import get_feature_set
from steps.market.labels import label_definition
from steps.market.price_stream import open_price_stream
from steps.market.prices import load_prices, open_prices
from steps.market.snapshot import (
    FeatureSnapshot,
    SnapshotError,
    describe_part,
    join_parts,
    make_snapshot,
    manifest_id,
    symbol_digests,
)

CORE = get_feature_set("core")
SAMPLE_ID = "1b85982c788cb12b1a20b2a2d262dd64"
"""The bundled prices' ID, on every machine and every Python. A change of formula changes it: then
raise the feature set's version, and this constant with it."""


@pytest.fixture(scope="module")
def prices() -> pd.DataFrame:
    return load_prices("sample").table


@pytest.fixture(scope="module")
def snapshot(prices: pd.DataFrame) -> FeatureSnapshot:
    return build_snapshot(prices, CORE, horizon=1)


def remake(table: pd.DataFrame, like: FeatureSnapshot) -> FeatureSnapshot:
    manifest = like.manifest
    return make_snapshot(
        table,
        feature_set=manifest["feature_set"],
        version=manifest["version"],
        label=manifest["label"],
    )


def test_the_bundled_prices_have_their_known_id(snapshot: FeatureSnapshot) -> None:
    assert snapshot.snapshot_id == SAMPLE_ID


def test_the_id_is_the_md5_a_reader_computes(snapshot: FeatureSnapshot) -> None:
    by_hand = hashlib.md5(json.dumps(snapshot.manifest, sort_keys=True).encode()).hexdigest()
    assert snapshot.snapshot_id == by_hand == manifest_id(snapshot.manifest)


def test_the_manifest_says_what_is_in_the_table(
    snapshot: FeatureSnapshot, prices: pd.DataFrame
) -> None:
    manifest, table = snapshot.manifest, snapshot.table
    assert manifest["feature_count"] == len(manifest["feature_names"]) == 23
    assert set(manifest["feature_types"].values()) == {"float32"}
    assert manifest["symbols"] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert manifest["row_count"] == len(table) == len(prices) - 5 * CORE.lookback
    assert manifest["labelled_row_count"] == len(table) - 5  # each symbol's last day is open
    assert (manifest["first_date"], manifest["last_date"]) == ("2000-04-17", "2013-03-01")
    assert manifest["label"]["horizon"] == snapshot.horizon == 1
    # no clock, path, host or library version: a manifest names features, not their making
    assert not {"engineer_date", "created", "path", "libraries"} & set(manifest)


def test_rows_without_a_known_label_stay(snapshot: FeatureSnapshot) -> None:
    unknown = snapshot.table[snapshot.table["direction"].isna()]
    assert unknown["label_known_at"].isna().all()
    assert (unknown["date"] == pd.Timestamp("2013-03-01")).all()


def test_labels_belong_to_their_rows(snapshot: FeatureSnapshot, prices: pd.DataFrame) -> None:
    """Independent of `label_direction`: looked up in the prices by date."""
    close = prices.set_index(["date", "symbol"])["close"]
    rng = np.random.default_rng(0)
    labelled = snapshot.table.dropna(subset="direction")
    for row in labelled.iloc[rng.choice(len(labelled), 200, replace=False)].itertuples():
        of_symbol = close.xs(row.symbol, level="symbol")
        at = of_symbol.index.get_loc(row.date)
        assert row.label_known_at == of_symbol.index[at + 1]
        assert row.direction == int(of_symbol.iloc[at + 1] > of_symbol.iloc[at])


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), horizon=st.integers(1, 30))
def test_partition_and_order_of_the_input_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, seed: int, horizon: int
) -> None:
    raw = load_prices("sample").table.groupby("symbol").tail(90)
    rng = np.random.default_rng(seed)
    shuffled = raw.sample(frac=1, random_state=rng.integers(2**31))
    folder = tmp_path_factory.mktemp("prices")
    cut = int(rng.integers(1, len(shuffled)))
    shuffled.iloc[:cut].to_csv(folder / "a.csv", index=False)
    shuffled.iloc[cut:].to_parquet(folder / "b.parquet", index=False)
    expected = build_snapshot(raw.reset_index(drop=True), CORE, horizon)
    found = build_snapshot(load_prices(folder).table, CORE, horizon)
    assert found.snapshot_id == expected.snapshot_id


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 9_000), horizon=st.integers(1, 30))
def test_every_chunking_has_the_manifest_of_the_whole(
    prices: pd.DataFrame, rows: int, horizon: int
) -> None:
    build = partial(build_part, feature_set="core", horizon=horizon)
    with open_prices("sample") as files, open_price_stream(files) as stream:
        tables, parts = zip(*map(build, stream.pieces(rows, min_rows=CORE.min_rows)), strict=True)
    whole = build_snapshot(prices, CORE, horizon)
    found = join_parts(
        parts, feature_set=CORE.name, version=CORE.version, label=label_definition(horizon)
    )
    assert found == whole.manifest
    assert list(found) == list(whole.manifest)
    table = pd.concat(tables, ignore_index=True)
    pd.testing.assert_frame_equal(table, whole.table, check_exact=True)
    assert sum(part.risen_row_count for part in parts) == whole.table["direction"].sum()


@pytest.mark.slow
def test_every_number_of_processes_has_the_same_parts() -> None:
    build = partial(build_part, feature_set="core", horizon=1)
    with open_prices("sample") as files, open_price_stream(files) as stream:
        pieces = stream.pieces(1)
        alone, two = ([part for _, part in map_in_order(build, pieces, n_jobs=n)] for n in (1, 2))
    assert len(pieces) == 5
    assert alone == two


def test_parts_that_do_not_belong_together_are_refused(snapshot: FeatureSnapshot) -> None:
    first, second = (
        describe_part(snapshot.table[snapshot.table["symbol"] == symbol])
        for symbol in ("AAPL", "IBM")
    )
    other = replace(second, feature_types=dict(reversed(second.feature_types.items())))
    about: dict[str, Any] = {"feature_set": "core", "version": "1", "label": {}}
    for parts, said in (
        ([], "at least one row"),
        ([second, first], "the rows of AAPL are out of order or in two places"),
        ([first, first], "the rows of AAPL are out of order or in two places"),
        ([first, other], "other features than its first one"),
    ):
        with pytest.raises(SnapshotError, match=said):
            join_parts(parts, **about)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_one_changed_bit_changes_the_id(data: st.DataObject) -> None:
    whole = load_prices("sample").table
    small = build_snapshot(whole.groupby("symbol").head(60).reset_index(drop=True), CORE, 1)
    row = data.draw(st.integers(0, len(small.table) - 1), label="row")
    name = data.draw(st.sampled_from(small.feature_names), label="feature")
    bit = data.draw(st.integers(0, 31), label="bit")
    values = small.table[name].to_numpy(np.float32).copy()
    values.view(np.uint32)[row] ^= np.uint32(1 << bit)
    changed = small.table.assign(**{name: values})
    if not np.isfinite(values[row]):
        with pytest.raises(SnapshotError, match=f"{name} is"):
            remake(changed, small)
        return
    assert remake(changed, small).snapshot_id != small.snapshot_id
    with pytest.raises(SnapshotError, match="does not verify"):
        FeatureSnapshot(changed, small.manifest).verify()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("direction", pd.NA),
        ("direction", 0),
        ("label_known_at", pd.NaT),
        ("label_known_at", pd.Timestamp("2000-04-20")),
        ("date", pd.Timestamp("2000-04-15")),
        ("symbol", "AAPM"),
    ],
)
def test_labels_dates_and_symbols_count_too(
    snapshot: FeatureSnapshot, column: str, value: object
) -> None:
    table = snapshot.table[snapshot.table["symbol"] == "AAPL"].reset_index(drop=True)
    one = remake(table, snapshot)
    changed = table.copy()
    row = len(table) - 1 if column == "symbol" else 0
    assert changed.loc[row, column] is not value
    changed.loc[row, column] = value
    assert remake(changed, snapshot).snapshot_id != one.snapshot_id


def test_order_of_features_counts(snapshot: FeatureSnapshot) -> None:
    names = [*reversed(snapshot.feature_names)]
    turned = snapshot.table[["date", "symbol", *names, "direction", "label_known_at"]]
    assert remake(turned, snapshot).snapshot_id != snapshot.snapshot_id


def test_a_symbols_digest_does_not_depend_on_the_others(snapshot: FeatureSnapshot) -> None:
    """What lets several workers hash a share each."""
    together = dict(symbol_digests(snapshot.table, snapshot.feature_names))
    for symbol, part in snapshot.table.groupby("symbol"):
        alone = dict(symbol_digests(part.reset_index(drop=True), snapshot.feature_names))
        assert alone == {symbol: together[str(symbol)]}


def test_the_hash_agrees_with_one_written_from_the_description(
    snapshot: FeatureSnapshot,
) -> None:
    """Independent of the module: row by row, with struct instead of NumPy."""
    import struct

    part = snapshot.table.groupby("symbol").head(20)
    digests = {}
    for symbol, rows in part.groupby("symbol"):
        day = b"".join(
            struct.pack("<i", (d - pd.Timestamp("1970-01-01")).days) for d in rows["date"]
        )
        known = b"".join(
            struct.pack("<i", (d - pd.Timestamp("1970-01-01")).days) for d in rows["label_known_at"]
        )
        label = b"".join(struct.pack("<b", int(v)) for v in rows["direction"])
        value = b"".join(
            struct.pack("<f", v) for _, r in rows[snapshot.feature_names].iterrows() for v in r
        )
        digests[symbol] = hashlib.sha256(day + value + label + known).hexdigest()
    text = "".join(f"{symbol}\0{digests[symbol]}\n" for symbol in sorted(digests))
    expected = hashlib.sha256(text.encode()).hexdigest()
    made = remake(part.reset_index(drop=True), snapshot)
    assert made.manifest["values_sha256"] == expected


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.iloc[::-1].reset_index(drop=True), "out of order"),
        (lambda t: pd.concat([t.iloc[:1], t]).reset_index(drop=True), "out of order or double"),
        (lambda t: t.assign(month=t["month"].astype("float64")), "month is float64"),
        (lambda t: t.assign(month=t["month"].mask(t.index == 3)), "month is nan for AAPL on 2000"),
        (lambda t: t.drop(columns="label_known_at"), "label_known_at"),
        (lambda t: t.iloc[:0], "at least one row"),
        (lambda t: t[["date", "symbol", "direction", "label_known_at"]], "at least one feature"),
    ],
)
def test_a_malformed_table_is_refused(snapshot: FeatureSnapshot, spoil, message: str) -> None:
    with pytest.raises(SnapshotError, match=message):
        remake(spoil(snapshot.table), snapshot)


def test_a_foreign_manifest_is_refused(snapshot: FeatureSnapshot) -> None:
    with pytest.raises(SnapshotError, match="entry feature_names is missing or of another kind"):
        FeatureSnapshot(snapshot.table, {"feature_count": 23}).verify()


def test_equal_ingredients_have_equal_keys() -> None:
    same = feature_key(ingredients("ab", CORE, 1))
    assert same == feature_key(ingredients("ab", CORE, 1))
    assert same != feature_key(ingredients("ac", CORE, 1))
    assert same != feature_key(ingredients("ab", CORE, 2))


@pytest.mark.slow
def test_the_id_does_not_hang_on_the_process(tmp_path: Path) -> None:
    """Another hash seed, another folder, another time zone and locale."""
    program = (
        "from steps.market.build import build_snapshot\n"
        "from steps.market.features import get_feature_set\n"
        "from steps.market.prices import load_prices\n"
        "prices = load_prices('sample').table\n"
        "print(build_snapshot(prices, get_feature_set('core'), 1).snapshot_id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONHASHSEED": "7",
            "TZ": "Asia/Tokyo",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == SAMPLE_ID
