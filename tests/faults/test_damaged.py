"""A byte of what is stored flips: it is refused before anything of it is used."""

from collections.abc import Iterator
from contextlib import contextmanager

from faults.cells import fault
from faults.files import StoredFile, stored_files
from faults.place import Place, Work
from steps.tracking.snapshot_store import resolve_snapshot


@contextmanager
def flipped(file: StoredFile) -> Iterator[None]:
    """Flip a bit in the middle of a file, and back."""
    whole = file.read()
    middle = len(whole) // 2
    file.write(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    try:
        yield
    finally:
        file.write(whole)


def assert_refused(work: Work, file: StoredFile) -> None:
    """Evaluate does not use it, and says which file it is: to the terminal, and in its run."""
    evaluate = work.start(
        "steps.evaluate", train_run_id=work.place.trained.info.run_id, n_resamples=100
    )
    assert evaluate.end() == 1
    (said,) = evaluate.said
    assert f" is not used: {file.name} is damaged" in said
    run = work.run_of("evaluate")
    assert run.info.status == "FAILED"
    assert f" is not used: {file.name} is damaged" in run.data.tags["failure"]
    assert "verdict" not in run.data.tags


@fault("a byte of the stored snapshot flips")
def test_flipped_byte_in_the_snapshot(place: Place, work: Work) -> None:
    assert place.trained
    # The same features may be stored several times; this is what is taken.
    stored = resolve_snapshot(place.client, work.experiment_id, place.features.snapshot_id)
    files = {each.name: each for each in stored_files(place, stored.artifact_uri)}
    with flipped(files["features.parquet"]):
        assert_refused(work, files["features.parquet"])


@fault("a byte of the stored model flips")
def test_flipped_byte_in_the_model(place: Place, work: Work) -> None:
    model_id = place.trained.data.tags["model_uri"].removeprefix("models:/")
    location = place.client.get_logged_model(model_id).artifact_location
    largest = max(stored_files(place, location), key=lambda file: len(file.read()))
    with flipped(largest):
        assert_refused(work, largest)
