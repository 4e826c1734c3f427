"""The code that a model carries: all it needs, under a name of its own, and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from steps.market.build import hash_code, ingredients, own_code
from steps.market.features import get_feature_set
from steps.serving.carried_code import MissingCodeError, carry

MARKET = own_code()
ENTRY = "serving/price_model.py"


def test_every_import_is_carried() -> None:
    carried = carry(ENTRY, MARKET)
    modules = {path.removesuffix(".py").removesuffix("/__init__") for path in carried.files}
    for path, source in carried.files.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module:
                first, *inner = node.module.split(".")
                assert first != "steps", path
                if first == carried.package:
                    assert "/".join(inner) in modules, (path, node.module)


def test_nothing_is_carried_that_is_not_needed() -> None:
    files = carry(ENTRY, MARKET).files
    assert {"serving/price_model.py", "serving/forecast.py", "market/indicators.py"} <= files.keys()
    assert not {"train.py", "entry_point.py", "market/price_files.py"} & files.keys()
    assert not any(path.startswith("reporting") for path in files)


def test_equal_code_has_equal_names_and_other_code_another() -> None:
    package = carry(ENTRY, MARKET).package
    assert package == carry(ENTRY, dict(reversed(MARKET.items()))).package
    changed = {**MARKET, "indicators.py": MARKET["indicators.py"] + "# changed\n"}
    assert package != carry(ENTRY, changed).package
    unused = {**MARKET, "lookahead.py": ""}
    assert package == carry(ENTRY, unused).package


def test_the_code_of_the_snapshot_is_carried_and_not_that_of_the_checkout() -> None:
    changed = {**MARKET, "age.py": MARKET["age.py"] + "# of the snapshot\n"}
    assert carry(ENTRY, changed).files["market/age.py"].endswith("# of the snapshot\n")


def test_code_that_lacks_a_module_is_refused() -> None:
    lacking = {name: source for name, source in MARKET.items() if name != "bars.py"}
    with pytest.raises(MissingCodeError, match=r"market/bars\.py is missing"):
        carry(ENTRY, lacking)


def test_the_hash_of_the_code_is_the_one_in_a_snapshots_provenance() -> None:
    made_from = ingredients("0" * 64, get_feature_set("core"), 1)
    assert made_from["code_sha256"] == hash_code(MARKET)
    assert hash_code({**MARKET, "age.py": ""}) != hash_code(MARKET)


@pytest.mark.slow
def test_it_can_be_imported_where_there_is_nothing_else(tmp_path: Path) -> None:
    first = carry(ENTRY, MARKET)
    other = carry(ENTRY, {**MARKET, "age.py": MARKET["age.py"] + "# other\n"})
    for carried in (first, other):
        carried.write(tmp_path)
    script = f"""if True:
        import sys
        import {first.package}.serving.price_model as one
        import {other.package}.serving.price_model as two
        assert one.PriceModel is not two.PriceModel
        assert one.__file__ != two.__file__
        assert not any(name == "steps" or name.startswith("steps.") for name in sys.modules)
    """
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)
