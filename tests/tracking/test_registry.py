"""The model registry: names and versions, and moving the champion."""

import pytest
import xgboost
from registered_models import log_model, make_model

from steps.tracking.model_store import load_model
from steps.tracking.registry import ModelVersion, RegisteredModel
from steps.tracking.stores import TrackingError

pytestmark = pytest.mark.slow


@pytest.fixture
def model(store: str, request: pytest.FixtureRequest) -> RegisteredModel:
    """A registered model of the test's own, on each kind of store."""
    return make_model(store, request.node.name)


@pytest.fixture
def queued(shared_database: str, request: pytest.FixtureRequest) -> RegisteredModel:
    """One on SQLite alone."""
    return make_model(shared_database, request.node.name)


def aliases(model: RegisteredModel) -> dict[str, int]:
    found = model.client.get_registered_model(model.name).aliases
    return {alias: int(number) for alias, number in found.items()}


@pytest.mark.slow
def test_versions_and_aliases_on_each_store(model: RegisteredModel) -> None:
    model.create()  # again: nothing happens
    assert model.champion() is None
    uri, other_uri = log_model(model), log_model(model)
    first = model.register(uri)
    assert (first.number, first.source) == (1, uri)
    assert first.run_id == model.client.get_logged_model(uri.rpartition("/")[2]).source_run_id
    assert model.register(uri).number == 1
    second = model.register(other_uri)
    assert model.versions() == [1, 2]
    assert isinstance(load_model(second.uri)[0], xgboost.Booster)

    model.challenge(second)
    assert aliases(model) == {"challenger": 2}
    model.crown(first, [])
    assert model.champion() == model.version(1)
    model.crown(second, [1])
    assert aliases(model) == {"champion": 2}
    champion = model.champion()
    assert champion is not None
    assert (champion.tags["replaces"], champion.former_champions) == ("1", [1])
    assert model.version(1).tags["replaces"] == "none"

    model.describe(1, description="x" * 6000, rolled_back_by="somebody", gate="APPROVED")
    assert model.version(1).tags["rolled_back_by"] == "somebody"
    assert len(model.client.get_model_version(model.name, "1").description) == 5000
    model.crown(model.version(1), [])
    assert "rolled_back_by" not in model.version(1).tags
    assert model.version(1).tags["gate"] == "APPROVED"

    model.client.delete_model_version(model.name, "1")
    assert model.champion() is None
    with pytest.raises(TrackingError, match=r"has no version 1: .* was deleted; there are: 2$"):
        model.version(1)


def test_what_the_registry_refuses_is_said_in_one_line(queued: RegisteredModel) -> None:
    absent = RegisteredModel(queued.client, "absent")
    with pytest.raises(TrackingError, match=rf"no registered model 'absent' .*{queued.name}"):
        absent.require()
    with pytest.raises(TrackingError, match="was asked for the champion of 'absent' and refused"):
        absent.champion()
    with pytest.raises(TrackingError, match="was asked to register models:/m-0 as a version of"):
        queued.register("models:/m-0")
    assert queued.versions() == []
    queued.client.register_prompt(name="a-prompt", template="hello")
    with pytest.raises(TrackingError, match="'a-prompt', but the name is already taken by a prom"):
        RegisteredModel(queued.client, "a-prompt").create()


def test_a_name_may_speak_of_prompts(queued: RegisteredModel) -> None:
    model = RegisteredModel(queued.client, "a prompt direction")
    model.create()
    model.create()
    assert model.versions() == []


@pytest.mark.slow
def test_an_interrupted_crowning_can_be_done_again(
    queued: RegisteredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = queued.register(log_model(queued))
    queued.challenge(version)

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(queued.client, "set_registered_model_alias", stop)
        queued.crown(version, [])
    assert aliases(queued) == {}
    assert "champion_since" not in queued.version(1).tags
    assert queued.past_champions() == []
    queued.crown(version, [])
    assert aliases(queued) == {"champion": 1}
    assert [each.number for each in queued.past_champions()] == [1]


def test_what_an_interrupted_crowning_left_undone_is_done(queued: RegisteredModel) -> None:
    version = queued.register(log_model(queued))
    queued.describe(1, rolled_back_by="somebody", rolled_back_at="some day")
    for alias in ("champion", "challenger"):
        queued.client.set_registered_model_alias(queued.name, alias, "1")
    queued.complete(queued.version(version.number))
    assert aliases(queued) == {"champion": 1}
    whole = queued.version(1)
    assert whole.tags.keys() == {"champion_since"}
    queued.describe(1, champion_since="once")
    queued.complete(queued.version(1))
    assert queued.version(1).tags == {"champion_since": "once"}


@pytest.mark.slow
def test_past_champions_the_latest_last(queued: RegisteredModel) -> None:
    for day in ("2024-05-03", "2024-05-01", None, "2024-05-02"):
        number = queued.register(log_model(queued)).number
        if day:
            queued.describe(number, champion_since=day)
    assert [each.number for each in queued.past_champions()] == [2, 4, 1]
    queued.client.delete_model_version(queued.name, "1")
    assert [each.number for each in queued.past_champions()] == [2, 4]


def test_tags_that_somebody_has_edited_do_no_harm() -> None:
    tags = {"former_champions": "1 two 3"}
    assert ModelVersion("x", 4, "models:/m-0", None, tags).former_champions == [1, 3]


def test_a_link_is_whole_whatever_the_name() -> None:
    version = ModelVersion("Größe 2.1", 4, "models:/m-0", None, {})
    assert version.link == "[version 4](#/models/Gr%C3%B6%C3%9Fe%202.1/versions/4)"
