"""`mlflow run` of a project that is elsewhere: a git server, a zip file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from end_to_end.conftest import Launched, Remote
from end_to_end.recipe import Recorded, git, mlflow_run
from end_to_end.servers import file_server, serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(new_folder: Callable[[], Path]) -> Path:
    """A folder that is not the project's, with a database that all runs below share."""
    return new_folder()


def test_a_branch_of_a_git_server_from_the_command_line(remote: Remote, folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    done = mlflow_run(
        *(remote.uri, "-v", "main", "-e", "featurize", "--env-manager", "local"), cwd=folder
    )
    assert done.returncode == 0, done.stderr
    run = Recorded(folder).steps("featurize")[-1]
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.source.git.commit"] == remote.head
    assert run.data.tags["mlflow.source.name"] == remote.uri
    assert run.data.tags["mlflow.source.git.repoURL"] == remote.uri
    # The runs are where the caller is, the code is not.
    after = {path.name for path in folder.iterdir()} - set(before)
    assert after == {"mlruns", "mlflow.db.lock"}
    assert (Recorded(folder).artifacts(run) / "snapshot" / "features.parquet").is_file()
    assert folder in Recorded(folder).artifacts(run).parents


@pytest.mark.parametrize("version", ["", "v1", "full SHA"])
def test_head_tag_and_sha_of_a_git_server(
    version: str, remote: Remote, folder: Path, launch: Callable[..., Launched]
) -> None:
    asked = remote.tagged if version == "full SHA" else version
    done = launch("featurize", folder, remote.uri, asked)
    assert done.succeeded, done.lines
    expected = remote.tagged if version else remote.head
    assert done.run.data.tags["mlflow.source.git.commit"] == expected
    assert done.run.info.status == "FINISHED"


def test_zip_files_on_disk_and_behind_http(
    project: Path,
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    launch: Callable[..., Launched],
) -> None:
    shelf = tmp_path_factory.mktemp("shelf")
    git("archive", "--format=zip", f"--output={shelf / 'flat.zip'}", "HEAD", cwd=project)
    # Hosts of repositories put everything into a folder in the archive.
    git(
        *("archive", "--format=zip", "--prefix=candlewick-main/"),
        *(f"--output={shelf / 'candlewick.zip'}", "HEAD"),
        cwd=project,
    )
    done = launch("featurize", folder, (shelf / "flat.zip").as_uri())
    assert done.succeeded, done.lines
    with serve(file_server(shelf)) as address:
        again = launch("featurize", folder, f"{address}/candlewick.zip#candlewick-main")
    assert again.succeeded, again.lines
    ids = {run.data.tags["feature_snapshot_id"] for run in Recorded(folder).steps("featurize")}
    assert len(ids) == 1, "every source has the same code, so the same snapshot"


@pytest.mark.thorough
def test_the_way_from_a_git_url_to_a_champion_and_its_proof(
    remote: Remote, new_folder: Callable[[], Path], launch: Callable[..., Launched]
) -> None:
    """Every step from the URL alone, each finding what the one before left."""
    folder = new_folder()
    quick = {"n_estimators": "8", "early_stopping_rounds": "3"}
    for step, typed in (
        ("main", quick),
        ("walk_forward", {**quick, "train_dates": "1500", "test_dates": "700"}),
        ("promote", {"force": "true"}),
        ("reproduce", {}),
    ):
        done = launch(step, folder, remote.uri, "v1", **typed)
        assert done.succeeded, done.lines
        assert done.run.info.status == "FINISHED"
        assert done.run.data.tags["mlflow.source.git.commit"] == remote.tagged
    recorded = Recorded(folder)
    (promoted,), (proof,) = recorded.steps("promote"), recorded.steps("reproduce")
    version = recorded.client.get_model_version_by_alias("stock_direction", "champion")
    assert version.tags["promote_run_id"] == promoted.info.run_id
    assert version.tags["forced"] == "true"
    assert proof.data.tags["reproduced"] == "true"
    evaluate = recorded.steps("evaluate")[0]
    report = (recorded.artifacts(evaluate) / "report.html").read_text()
    assert f"mlflow run {remote.uri} -v {remote.tagged} -e evaluate" in report
