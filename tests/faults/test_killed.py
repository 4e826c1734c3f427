"""Killed, with no chance to say so: the next start completes and ends what was left behind."""

import json
import signal

from faults.cells import Losses, fault
from faults.place import ENDLESS, Place, Work
from faults.rounds import check_beginning, check_rounds
from faults.started import eventually
from steps.tracking.dead_runs import SILENCE, find_dead_runs
from steps.tracking.heartbeat import (
    ENDED_TAG,
    HEARTBEAT_TAG,
    OWNER_TAG,
    beat,
    signs_of_life,
    start_beating,
    stop_beating,
)
from steps.tracking.processes import boot


@fault("SIGKILL during training", sampled=["sqlite"])
def test_sigkill(place: Place, work: Work, losses: Losses) -> None:
    assert place.undisturbed
    alive = place.client.create_run(work.experiment_id, tags=signs_of_life()).info.run_id
    training = work.train(**ENDLESS)
    eventually(lambda: len(work.told()) > 300, training)  # some are sent, others wait in a file
    training.send(signal.SIGKILL)
    training.end()
    dead = work.run_of("train")
    assert dead.info.status == "RUNNING"
    assert work.journals() != []
    work.start("steps.featurize", prices=place.prices).succeed()
    dead = work.run_of("train")
    reason = f"its process (number {training.process.pid} on this machine) is gone"
    assert dead.info.status == "KILLED"
    assert dead.data.tags["failure"] == f"Killed: {reason}"
    check_rounds(place, dead, losses, work.told())
    check_beginning(work, dead, losses)
    assert work.journals() == []
    assert place.client.get_run(alive).info.status == "RUNNING"


def elsewhere() -> dict[str, str]:
    """Return the tags of a run that a process on another machine owns."""
    tags = signs_of_life()
    owner = json.loads(tags[OWNER_TAG])
    owner |= {"host": "elsewhere", "machine": "another", "numbering": "another boot pid:[1]"}
    return {**tags, OWNER_TAG: json.dumps(owner)}


@fault("a machine lost power; another one only seemed to")
def test_other_machines(place: Place, work: Work, losses: Losses) -> None:
    client, mark = place.client, f"candlewick.suspected.{boot()}"
    dead, alive, asleep = (
        client.create_run(work.experiment_id, tags=elsewhere()).info.run_id for _ in range(3)
    )

    def statuses() -> list[str]:
        return [client.get_run(each).info.status for each in (dead, alive, asleep)]

    assert find_dead_runs(client, [work.experiment_id]) == []  # at the first look
    assert statuses() == ["RUNNING", "RUNNING", "RUNNING"]
    for each in (dead, alive, asleep):  # ten minutes pass, for those who look at the mark
        seen = json.loads(client.get_run(each).data.tags[mark])
        seen["since"] -= SILENCE
        client.set_tag(each, mark, json.dumps(seen))
    client.set_tag(alive, HEARTBEAT_TAG, "a later one")
    work.start("steps.sync").succeed()
    assert statuses() == ["KILLED", "RUNNING", "KILLED"]
    reason = client.get_run(dead).data.tags["failure"]
    assert reason.startswith("Killed: its process on elsewhere has given no sign of life for 10 ")

    # The other machine was only asleep: its process takes its run back.
    start_beating(client, asleep)
    beat(client, asleep)
    stop_beating(asleep)
    assert statuses() == ["KILLED", "RUNNING", "RUNNING"]
    assert not {"failure", ENDED_TAG} & client.get_run(asleep).data.tags.keys()
