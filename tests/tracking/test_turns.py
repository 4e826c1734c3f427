"""Taking turns with a registered model."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow.exceptions import MlflowException
from registered_models import log_model, make_model

from steps.tracking import turns
from steps.tracking.registry import RegisteredModel
from steps.tracking.stores import TrackingError
from steps.tracking.turns import take_turn

pytestmark = pytest.mark.slow

TICKET = "candlewick.turn."


def be_quiet(message: str) -> None:
    pass


@pytest.fixture
def model(store: str, request: pytest.FixtureRequest) -> RegisteredModel:
    """A registered model of the test's own, on each kind of store."""
    return make_model(store, request.node.name)


@pytest.fixture
def queued(shared_database: str, request: pytest.FixtureRequest) -> RegisteredModel:
    """One on SQLite alone."""
    return make_model(shared_database, request.node.name)


def start_run(model: RegisteredModel) -> str:
    return str(model.client.create_run("0").info.run_id)


@pytest.mark.slow
def test_turns_do_not_overlap(model: RegisteredModel) -> None:
    inside: list[str] = []
    most: list[int] = []

    def take_turns(run_id: str) -> None:
        for _ in range(2):
            with take_turn(model, run_id, be_quiet) as check:
                inside.append(run_id)
                check(None)
                most.append(len(inside))
                inside.remove(run_id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take_turns, [start_run(model) for _ in range(4)]))
    assert most == [1] * 8
    assert model.client.get_registered_model(model.name).tags == {}


def waiting(
    model: RegisteredModel, until: Callable[[], None], of: str
) -> tuple[str, list[str], dict[str, str]]:
    """Have a run wait for its turn; once it says that it does, do something about that."""
    run_id, said, seen = start_run(model), [], {}
    told = threading.Event()

    def hear(message: str) -> None:
        said.append(message)
        told.set()

    def take_a_turn() -> None:
        with take_turn(model, run_id, hear):
            seen.update(model.client.get_registered_model(model.name).tags)

    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(take_a_turn)
        assert told.wait(60)
        assert said == [f"waiting for run {of} on a-host, which changes {model.name}"]
        until()
        waits.result(60)
    return run_id, said, seen


def give_ticket(model: RegisteredModel, run_id: str, number: int, age: float = 0.0) -> None:
    ticket = {"number": number, "since": time.time() - age, "host": "a-host"}
    model.client.set_registered_model_tag(model.name, TICKET + run_id, json.dumps(ticket))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_one_waits_for_who_came_first_or_is_about_to_draw(
    queued: RegisteredModel, number: int
) -> None:
    first = start_run(queued)
    give_ticket(queued, first, number)
    second, said, seen = waiting(
        queued,
        until=lambda: queued.client.delete_registered_model_tag(queued.name, TICKET + first),
        of=first,
    )
    assert len(said) == 1
    assert seen.keys() == {TICKET + second}
    assert json.loads(seen[TICKET + second])["number"] == number + 1


@pytest.mark.slow
def test_one_does_not_wait_for_who_drew_a_later_ticket(queued: RegisteredModel) -> None:
    first = start_run(queued)
    give_ticket(queued, first, 0)
    waiting(queued, until=lambda: give_ticket(queued, first, 2), of=first)
    assert queued.client.get_registered_model(queued.name).tags.keys() == {TICKET + first}


@pytest.mark.slow
def test_a_run_that_ended_without_leaving_is_passed_over(queued: RegisteredModel) -> None:
    dead = start_run(queued)
    give_ticket(queued, dead, 1)
    said = waiting(queued, until=lambda: queued.client.set_terminated(dead, "FAILED"), of=dead)[1]
    left = f"run {dead} has left {queued.name} half way, being FAILED: going on without it"
    assert said[1:] == [left]
    give_ticket(queued, "f" * 32, 1)  # of a run that was deleted for good
    messages: list[str] = []
    with take_turn(queued, start_run(queued), messages.append):
        pass
    assert messages == [left.replace(dead, "f" * 32).replace("FAILED", "deleted")]
    assert queued.client.get_registered_model(queued.name).tags == {}


def test_a_run_that_was_killed_is_passed_over_and_changes_nothing_later(
    queued: RegisteredModel,
) -> None:
    killed = start_run(queued)
    messages: list[str] = []
    with take_turn(queued, killed, be_quiet) as check:
        give_ticket(queued, killed, 1, age=660)
        with take_turn(queued, start_run(queued), messages.append):
            pass
        assert messages == [
            f"run {killed} has left {queued.name} half way, 11 minutes ago: going on without it"
        ]
        with pytest.raises(
            TrackingError, match=r"stood still for 5 minutes or more.*no alias was moved"
        ):
            check(None)


def test_a_run_gives_up_well_before_it_is_passed_over(queued: RegisteredModel) -> None:
    slow, other = (turns._Queue(queued, start_run(queued)) for _ in range(2))
    slow.join()
    slow.check()
    aged = replace(slow._ticket, since=time.time() - 360)
    slow._show(aged)
    assert other._why_abandoned(slow._run_id, aged) is None
    with pytest.raises(TrackingError, match="no alias was moved; run the step again"):
        slow.check()


def test_a_turn_that_cannot_be_ended_does_not_undo_what_was_done(
    queued: RegisteredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise MlflowException("the disk is full", "INTERNAL_ERROR")

    messages: list[str] = []
    with take_turn(queued, start_run(queued), messages.append):
        monkeypatch.setattr(queued.client, "delete_registered_model_tag", refuse)
    assert messages == [
        f"the model registry was asked to end the turn with {queued.name!r} and refused: the disk "
        "is full: others wait until this run has ended"
    ]


@pytest.mark.slow
def test_who_waits_for_a_folder_says_so(in_empty_folder: Path) -> None:
    model = make_model("file:./mlruns", "in a folder")
    run_id, said, told = start_run(model), [], threading.Event()

    def hear(message: str) -> None:
        said.append(message)
        told.set()

    def take_a_turn() -> None:
        with take_turn(model, run_id, hear):
            pass

    folder = in_empty_folder / "mlruns"
    with ThreadPoolExecutor(1) as pool:
        with FileLock(folder / ".in a folder.lock"):
            waits = pool.submit(take_a_turn)
            assert told.wait(60)
        waits.result(60)
    assert said == [f"waiting for another run, which changes in a folder in {folder}"]


def test_one_does_not_wait_for_ever(
    queued: RegisteredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.1)
    first, second = start_run(queued), start_run(queued)
    give_ticket(queued, first, 1)
    with (
        pytest.raises(TrackingError, match=rf"still being changed by run {first} on a-host: if"),
        take_turn(queued, second, be_quiet),
    ):
        pass
    assert queued.client.get_registered_model(queued.name).tags.keys() == {TICKET + first}


def test_an_alias_moved_by_hand_meanwhile_is_noticed(queued: RegisteredModel) -> None:
    version = queued.register(log_model(queued))
    with take_turn(queued, start_run(queued), be_quiet) as check:
        check(None)
        queued.client.set_registered_model_alias(queued.name, "champion", "1")
        with pytest.raises(
            TrackingError, match=r"somebody has moved .* by hand .*no alias was mov"
        ):
            check(None)
        check(version)


def test_a_turn_ends_when_it_fails(queued: RegisteredModel) -> None:
    with pytest.raises(KeyboardInterrupt), take_turn(queued, start_run(queued), be_quiet):
        raise KeyboardInterrupt
    assert queued.client.get_registered_model(queued.name).tags == {}
    queued.client.delete_registered_model(queued.name)
    with (
        pytest.raises(TrackingError, match=r"for a turn with .* and refused"),
        take_turn(queued, start_run(queued), be_quiet),
    ):
        pass
    with pytest.raises(MlflowException, match="not found"):
        queued.client.get_registered_model(queued.name)
