"""What waits is in a file, in order, whole, and belongs to one process at a time."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.tracking import journal as module
from steps.tracking.journal import (
    Journal,
    JournalError,
    JournalInUseError,
    journal_folder,
    left_behind,
    pending,
)
from steps.tracking.messages import Message, merge

RUN = "0" * 32
STORE = "http://127.0.0.1:5000"

contents = st.dictionaries(
    st.text(max_size=5), st.one_of(st.text(), st.floats(), st.integers(), st.none()), max_size=3
)


@settings(max_examples=40, deadline=None)
@given(sent=st.lists(st.tuples(contents, st.booleans()), max_size=20), data=st.data())
def test_messages_come_back_in_order_and_leave_once(
    sent: list[tuple[dict[str, object], bool]], data: st.DataObject
) -> None:
    journal = Journal(RUN, STORE)
    for content, tried in sent:
        journal.append(Message("params", content), tried=tried)
    waiting = list(journal.waiting(100))
    # Compared as text, for NaN is not equal to itself.
    found = [(json.dumps(each.message.content), each.tried) for each in waiting]
    assert found == [(json.dumps(content), tried) for content, tried in sent]
    gone = data.draw(st.integers(0, len(sent)))
    journal.delivered([each.number for each in waiting[:gone]])
    assert [each.number for each in journal.waiting(100)] == [e.number for e in waiting[gone:]]
    assert journal.is_empty == (gone == len(sent))
    journal.delivered([each.number for each in waiting])
    journal.close()
    assert journal.path not in left_behind()


def test_files_are_kept_with_their_message(in_empty_folder: Path) -> None:
    plots = in_empty_folder / "plots"
    (plots / "deep").mkdir(parents=True)
    (plots / "deep" / "roc.png").write_bytes(b"\0\1")
    (plots / "a.txt").write_text("one")
    journal = Journal(RUN, STORE)
    journal.append(Message("artifacts", {"artifact_path": None}, plots))
    journal.append(Message("artifacts", {"artifact_path": None}, plots / "a.txt"))
    (plots / "a.txt").write_text("changed since")
    whole, single = (each.message.files for each in journal.waiting(10))
    assert whole and single
    assert (whole / "deep" / "roc.png").read_bytes() == b"\0\1"
    assert [path.read_text() for path in (whole / "a.txt", single / "a.txt")] == ["one", "one"]
    journal.delivered([1, 2])
    journal.close()
    assert list(journal_folder().iterdir()) == []


def test_nobody_else_reads_it_while_it_is_written() -> None:
    journal = Journal(RUN, STORE)
    journal.append(Message("params", {"a": 1}))
    (path,) = left_behind()
    with pytest.raises(JournalInUseError):
        Journal.of(path)
    (found,) = pending()
    assert (found.run_id, found.live) == (RUN, True)
    journal.close()
    (found,) = pending()
    assert (found.run_id, found.live, found.entries, found.store) == (RUN, False, 1, STORE)


@pytest.mark.slow
def test_a_killed_process_leaves_all_it_was_told() -> None:
    code = f"""
import os, signal
from steps.tracking.journal import Journal
from steps.tracking.messages import Message
journal = Journal("{RUN}", "{STORE}")
for step in range(500):
    journal.append(Message("metrics", {{"metrics": [["loss", 0.5, 1, step]]}}))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    (path,) = left_behind()
    journal = Journal.of(path)
    steps = [each.message.content["metrics"][0][3] for each in journal.waiting(1000)]
    assert steps == list(range(500))
    assert (journal.run_id, journal.store) == (RUN, STORE)
    journal.close()


def test_a_run_may_go_on_in_two_processes() -> None:
    first, second = Journal(RUN, STORE), Journal(RUN, STORE)
    first.append(Message("params", {"a": 1}))
    second.append(Message("params", {"b": 2}))
    first.close()
    second.close()
    assert [(each.run_id, each.entries) for each in pending()] == [(RUN, 1), (RUN, 1)]


def test_what_is_no_journal_is_named_and_left_alone() -> None:
    journal_folder().mkdir(parents=True)
    file = journal_folder() / f"{RUN}.1.journal"
    file.write_bytes(b"no database" * 100)
    with pytest.raises(JournalError, match=f"{file}: file is not a database"):
        Journal.of(file)
    (found,) = pending()
    assert (found.run_id, found.store, found.live) == (RUN, "", False)
    assert file.exists()


def test_without_a_place_for_files_it_is_kept_in_memory_and_said_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_empty_folder: Path
) -> None:
    (in_empty_folder / "file").touch()
    monkeypatch.setenv("CANDLEWICK_STATE", str(in_empty_folder / "file"))
    module._warn_of_memory.cache_clear()
    journal = Journal(RUN, STORE)
    journal.append(Message("params", {"a": 1}))
    assert [each.message.content for each in journal.waiting(10)] == [{"a": 1}]
    with pytest.raises(JournalError, match="files do not fit in"):
        journal.append(Message("artifacts", {}, in_empty_folder))
    Journal("1" * 32, STORE)
    assert [each.getMessage() for each in caplog.records] == [
        f"no journal can be kept in {in_empty_folder}/file/journal (Not a directory): what the "
        "store does not take at once would be lost with this process; CANDLEWICK_STATE names "
        "another folder"
    ]


def test_a_copy_that_was_cut_short_is_made_anew(in_empty_folder: Path) -> None:
    journal = Journal(RUN, STORE)
    assert journal.path
    stray = journal.path.with_suffix(".files") / "1"
    stray.mkdir(parents=True)
    (stray / "half").touch()
    (in_empty_folder / "whole").touch()
    journal.append(Message("artifacts", {}, in_empty_folder / "whole"))
    (waiting,) = journal.waiting(10)
    assert waiting.message.files
    assert [path.name for path in waiting.message.files.iterdir()] == ["whole"]
    journal.close()


def test_only_the_owner_may_read_it() -> None:
    journal = Journal(RUN, STORE)
    assert journal_folder().stat().st_mode & 0o077 == 0
    journal.close()


def test_metrics_go_together_up_to_a_request() -> None:
    def metrics(count: int) -> Message:
        return Message("metrics", {"metrics": [["a", 0.0, 0, step] for step in range(count)]})

    other = Message("params", {})
    assert merge([metrics(400), metrics(400), metrics(400)], 1000) == 2
    assert merge([metrics(400), other, metrics(400)], 1000) == 1
    assert merge([other, metrics(1)], 1000) == 0
    assert merge([metrics(1500), metrics(1)], 1000) == 1


def test_a_full_disk_is_told() -> None:
    journal = Journal(RUN, STORE)
    journal._db.execute(
        "PRAGMA max_page_count = " + str(journal._db.execute("PRAGMA page_count").fetchone()[0])
    )
    with pytest.raises(JournalError, match=r"journal .*\.journal cannot be written: .* is full"):
        journal.append(Message("params", {"a": "x" * 100_000}))
    journal.append(Message("params", {"a": 1}))  # which fits
    assert [each.message.content for each in journal.waiting(10)] == [{"a": 1}]
    journal.close()


def test_a_journal_with_damaged_pages_is_told_and_closed() -> None:
    journal = Journal(RUN, STORE)
    for number in range(200):
        journal.append(Message("params", {"a": "x" * 500, "n": number}))
    journal.close()
    (path,) = left_behind()
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(JournalError, match=str(path)):
        Journal.of(path)
    (found,) = pending()
    assert (found.live, found.store) == (False, "")


@pytest.mark.slow
def test_whoever_looks_while_one_is_made_disturbs_nothing() -> None:
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            pending()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(100):
            journal = Journal(RUN, STORE)
            journal.append(Message("params", {"a": 1}))
            assert journal.store == STORE
            assert journal.path
            assert journal.path.exists()
            journal.delivered([1])
            journal.close()
    finally:
        stop.set()
        thread.join()


def test_an_empty_file_is_somebodys_until_it_is_old() -> None:
    journal_folder().mkdir(parents=True)
    file = journal_folder() / f"{RUN}.1.journal"
    file.touch()
    assert [each.live for each in pending()] == [True]
    os.utime(file, (0, 0))
    pending()
    assert left_behind() == []
