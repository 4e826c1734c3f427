"""Checksums of a folder: one wrong byte anywhere shows, and what is whole passes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steps.tracking.checksums import SUMS, DamagedError, check, seal

FILES = {
    "MLmodel": b"flavors:\n",
    "empty": b"",
    "data/model with spaces.ubj": bytes(range(256)),
    "data/é.json": b"{}\n",
    "code/pkg/__init__.py": b"x = 1\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    return tmp_path / "model"


@pytest.fixture
def sealed(folder: Path) -> Path:
    seal(folder)
    return folder


def test_what_is_whole_passes(folder: Path, tmp_path: Path) -> None:
    check(folder)  # of before there were checksums
    expected = seal(folder)
    check(folder, required=True, expected=expected)
    assert seal(folder) == expected  # the list itself is not in the list
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    check(copy, required=True, expected=expected)


def test_the_list_is_what_sha256sum_reads(sealed: Path) -> None:
    lines = (sealed / SUMS).read_text().splitlines()
    assert [line[66:] for line in lines] == sorted(FILES)
    program = shutil.which("sha256sum")
    if program:
        done = subprocess.run([program, "-c", SUMS], cwd=sealed, capture_output=True, text=True)
        assert done.returncode == 0
        assert done.stdout.count(": OK") == len(FILES)


def changed(whole: bytes, *changes: int) -> Iterator[bytes]:
    for position in range(len(whole)):
        for change in changes or (1 << position % 8,):
            damaged = bytearray(whole)
            damaged[position] ^= change
            yield bytes(damaged)


@pytest.mark.parametrize("name", ["MLmodel", "data/é.json", "code/pkg/__init__.py"])
def test_every_bit_of_every_byte_counts(sealed: Path, name: str) -> None:
    for damaged in changed(FILES[name], 1, 2, 4, 8, 16, 32, 64, 128, 255):
        (sealed / name).write_bytes(damaged)
        with pytest.raises(DamagedError, match=f"^{name} is damaged: its SHA-256 begins with "):
            check(sealed)
    (sealed / name).write_bytes(FILES[name])
    check(sealed)


def test_every_byte_of_the_list_counts(sealed: Path) -> None:
    whole = (sealed / SUMS).read_bytes()
    for damaged in changed(whole):
        (sealed / SUMS).write_bytes(damaged)
        with pytest.raises(DamagedError):
            check(sealed)


@given(st.binary(max_size=400))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_other_list_passes(sealed: Path, content: bytes) -> None:
    (sealed / SUMS).write_bytes(content)
    with pytest.raises(DamagedError):
        check(sealed)


def test_files_that_are_shorter_gone_or_new_are_named(sealed: Path) -> None:
    file = sealed / "data/model with spaces.ubj"
    file.write_bytes(FILES["data/model with spaces.ubj"][:-1])
    with pytest.raises(DamagedError, match=r"^data/model with spaces.ubj is damaged"):
        check(sealed)
    file.unlink()
    with pytest.raises(DamagedError, match=r"^data/model with spaces.ubj is missing$"):
        check(sealed)
    file.write_bytes(FILES["data/model with spaces.ubj"])
    (sealed / "code" / "sitecustomize.py").write_text("")
    with pytest.raises(DamagedError, match=r"^code/sitecustomize.py was added, it is not in SHA"):
        check(sealed)
    (sealed / "code" / "sitecustomize.py").unlink()
    check(sealed)
    (sealed / SUMS).unlink()
    check(sealed)
    for wanted in ({"required": True}, {"expected": "0" * 64}):
        with pytest.raises(DamagedError, match=r"^SHA256SUMS is missing$"):
            check(sealed, **wanted)  # type: ignore[arg-type]


def test_another_list_than_the_one_that_was_kept(sealed: Path, folder: Path) -> None:
    expected = seal(folder)
    (folder / "MLmodel").write_bytes(b"flavours:\n")
    seal(folder)
    check(folder, required=True)
    with pytest.raises(DamagedError, match=r"^SHA256SUMS is damaged: it does not hash to"):
        check(folder, expected=expected)


def test_a_part_can_be_checked_alone(sealed: Path) -> None:
    shutil.rmtree(sealed / "data")
    (sealed / "MLmodel").unlink()
    check(sealed, within="code")
    check(sealed, within="code/pkg/__init__.py")
    with pytest.raises(DamagedError, match=r"^MLmodel is missing"):
        check(sealed, within="MLmodel")
    (sealed / "code" / "pkg" / "__init__.py").write_bytes(b"x = 2\n")
    with pytest.raises(DamagedError, match=r"^code/pkg/__init__.py is damaged"):
        check(sealed, within="code")
    (sealed / "codex").write_bytes(b"")
    check(sealed, within="empty")


def test_links_and_what_is_no_file_are_refused(sealed: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(FILES["MLmodel"])
    (sealed / "MLmodel").unlink()
    (sealed / "MLmodel").symlink_to(tmp_path / "secret")  # with the very content it should have
    with pytest.raises(DamagedError, match=r"^'MLmodel' is a link"):
        check(sealed)
    with pytest.raises(DamagedError, match=r"^'MLmodel' is a link"):
        seal(sealed)
    (sealed / "MLmodel").unlink()
    (sealed / "MLmodel").write_bytes(FILES["MLmodel"])
    (sealed / "more").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DamagedError, match=r"^'more' is a link"):
        check(sealed)
    (sealed / "more").unlink()
    os.mkfifo(sealed / "pipe")
    with pytest.raises(DamagedError, match=r"^'pipe' is neither a file nor a folder$"):
        check(sealed)  # and it does not wait for somebody to write into it
    (sealed / "pipe").unlink()
    (sealed / "a\nb").write_bytes(b"")
    with pytest.raises(DamagedError, match="is no name that SHA256SUMS could hold"):
        seal(sealed)


def test_what_mlflow_and_python_add_is_no_damage(sealed: Path) -> None:
    (sealed / "registered_model_meta").write_text("model_name: m\nmodel_version: '1'\n")
    compiled = sealed / "code" / "pkg" / "__pycache__"
    compiled.mkdir()
    (compiled / "__init__.cpython-311.pyc").write_bytes(b"\0")
    check(sealed)
    (compiled / "module.py").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"__pycache__/module.py was added"):
        check(sealed)
    (compiled / "module.py").unlink()
    (sealed / "code" / "pkg" / "loose.pyc").write_bytes(b"")  # Python would import it
    with pytest.raises(DamagedError, match=r"loose.pyc was added"):
        check(sealed)
    (sealed / "code" / "pkg" / "loose.pyc").unlink()
    (sealed / "data" / "registered_model_meta").write_bytes(b"")
    with pytest.raises(DamagedError, match="data/registered_model_meta was added"):
        check(sealed)


def test_a_list_that_is_huge_is_not_read(sealed: Path) -> None:
    with (sealed / SUMS).open("wb") as file:
        file.truncate(2**40)  # a terabyte of nothing, that takes no room
    with pytest.raises(DamagedError, match=r"^SHA256SUMS has 1,099,511,627,776 bytes, expected"):
        check(sealed)
