"""The store goes away while somebody trains: nothing is lost, and nothing arrives twice."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from services.unreliable import Mode, Unreliable

from faults.cells import BUCKETS, SERVERS, Losses, fault
from faults.commits import ForgetsCommits
from faults.content import content
from faults.place import Place, Work
from faults.started import Started, eventually
from steps.tracking import contact

AWAY = " is away ("
WAITS = "waiting for "


def assert_complete(work: Work, losses: Losses) -> None:
    """A run went through all this and holds what an undisturbed one does; nothing waits."""
    place = work.place
    losses.check(place.undisturbed, content(place.client, work.run_of("train"), place.table))
    assert work.journals() == []


def hold(started: Started, work: Work, at: int) -> None:
    """Wait until a step has come to a round and is held there."""
    eventually(lambda: work.is_held(at), started)


def let_it_ask_again() -> None:
    """Wait until it is time for a process that found the store away to look for it again."""
    until = time.monotonic() + contact._SOONEST
    eventually(lambda: time.monotonic() > until)


@fault("the store refuses connections during training, then returns", SERVERS)
def test_server_away_and_back(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    training = work.train({"FAULTS_ROUNDS": "20,300"})
    hold(training, work, 20)
    place.backend.stop()
    work.go(20)
    hold(training, work, 300)
    assert AWAY in training.text
    place.backend.start()
    let_it_ask_again()
    work.go(300)
    training.succeed()
    assert len(training.saying(AWAY)) == len(training.saying(" is back after ")) == 1
    assert_complete(work, losses)


@fault("the store falls silent during training, then returns", SERVERS)
def test_server_silent_and_back(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    impatient = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    training = work.train({"FAULTS_ROUNDS": "20,300", **impatient})
    hold(training, work, 20)
    place.backend.pause()
    work.go(20)
    assert place.backend.server
    port = place.backend.server.port
    # Who is in the middle of a statement hears nothing, and waits for PostgreSQL as long as it
    # takes. A request to a server has a time limit.
    eventually(lambda: AWAY in training.text or is_asked_in_vain(port), training)
    if place.backend.name.startswith("server"):
        hold(training, work, 300)
        assert AWAY in training.text
        let_it_ask_again()
    place.backend.resume()
    work.go(300)
    training.succeed()
    assert_complete(work, losses)


def is_asked_in_vain(port: int) -> bool:
    """Tell whether bytes have come to a port that nobody reads."""
    connections = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(
        int(local.rpartition(":")[2], 16) == port and int(queues.partition(":")[2], 16) > 0
        for _, local, _, state, queues, *_ in connections
        if state == "01"
    )


@fault("the store is away until after the training has ended", SERVERS, sampled=["postgres+s3"])
def test_server_away_until_after_the_end(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    training = work.train({"FAULTS_ROUNDS": "20"})
    hold(training, work, 20)
    place.backend.stop()
    work.go(20)
    training.succeed()
    (told,) = training.saying(AWAY)
    assert "python -m steps.sync" in told
    place.backend.start()
    work.start("steps.sync").succeed()
    assert_complete(work, losses)


@fault("the store is away during a pipeline, and returns", SERVERS)
def test_server_away_during_a_pipeline(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    pipeline = work.pipeline({"FAULTS_ROUNDS": "20"})
    hold(pipeline, work, 20)
    place.backend.stop()
    work.go(20)
    eventually(lambda: WAITS in pipeline.text, pipeline)
    place.backend.start()
    pipeline.succeed()
    runs = {each.data.tags["candlewick.step"]: each for each in work.runs()}
    assert runs.keys() == {"main", "featurize", "train", "evaluate"}
    assert {each.info.status for each in runs.values()} == {"FINISHED"}
    assert runs["main"].data.tags["verdict"] == runs["evaluate"].data.tags["verdict"]
    assert_complete(work, losses)


@fault("the store is away for longer than a pipeline waits", SERVERS)
def test_server_away_for_too_long(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    pipeline = work.pipeline({"FAULTS_ROUNDS": "20", "CANDLEWICK_PATIENCE": "2"})
    hold(pipeline, work, 20)
    place.backend.stop()
    work.go(20)
    assert pipeline.end() == 1
    gave_up = pipeline.said[-1]
    assert gave_up.startswith("candlewick main failed: ")
    assert "`python -m steps.sync` delivers" in gave_up
    place.backend.start()
    work.start("steps.sync").succeed()
    assert work.run_of("main").info.status == "FAILED"
    assert_complete(work, losses)
    work.start("steps.evaluate", n_resamples=100).succeed()
    assert work.runs_of("evaluate")[-1].info.status == "FINISHED"


@fault("the bucket alone is away until after the training has ended", BUCKETS)
def test_bucket_away(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    training = work.train({"FAULTS_ROUNDS": "20"})
    hold(training, work, 20)
    assert place.backend.artifacts
    place.backend.artifacts.server.stop()
    work.go(20)
    training.succeed()
    assert len(training.saying(AWAY)) == 1
    place.backend.artifacts.server.start()
    work.start("steps.sync").succeed()
    assert_complete(work, losses)


@contextmanager
def network(place: Place) -> Iterator[Unreliable]:
    """Put a network in front of the store that may lose answers."""
    assert place.backend.server
    kind = Unreliable if place.backend.name.startswith("server") else ForgetsCommits
    opened = kind(place.backend.server.port)
    try:
        yield opened
    finally:
        opened.close()


@fault("answers get lost during training", SERVERS)
def test_answers_get_lost(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    with network(place) as between:
        behind = f"127.0.0.1:{urlsplit(place.backend.uri).port}"
        through = {
            name: text.replace(behind, f"127.0.0.1:{between.port}")
            for name, text in place.backend.environment.items()
            if behind in text
        }
        training = work.train({"FAULTS_ROUNDS": "20,300", **through})
        hold(training, work, 20)
        between.mode = Mode.DEAF
        work.go(20)
        hold(training, work, 300)
        if place.backend.name.startswith("server"):
            assert AWAY in training.text
            between.mode = Mode.UP
            let_it_ask_again()
        work.go(300)
        training.succeed()
        assert between.lost > 0
    assert_complete(work, losses)
