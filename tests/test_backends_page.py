"""docs/backends.md: its commands run, each section's against the servers it is about."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from conftest import ROOT
from deploying.cluster import platform
from deploying.compose import composed
from documents import Document
from end_to_end.recipe import copy_project, environment
from mlflow.entities import Run
from recorded_models import make_table
from services.gcs import Gcs
from services.postgres import Postgres
from services.s3 import S3
from services.server import free_port

from steps.market.snapshot import make_snapshot
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_store import save_snapshot

PAGE = Document((ROOT / "docs" / "backends.md").read_text())
SECTIONS = PAGE.sections()
SNAPSHOT = "feature_snapshot_id"


def test_its_links_lead_to_its_own_titles() -> None:
    titles = [title.lower().replace(" ", "-").replace("`", "") for title in SECTIONS]
    for link in PAGE.links():
        if link.startswith("#"):
            assert re.sub(r"[^\w-]", "", link) in titles


def test_every_section_with_commands_is_run_below() -> None:
    run_here = re.findall(r'perform\(\s*"([^"]+)"', Path(__file__).read_text())
    with_commands = [title for title, section in SECTIONS.items() if section.blocks("bash")]
    assert sorted(run_here) == sorted(with_commands)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no cloud or database of whoever runs the tests be found."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "PG")):
            monkeypatch.delenv(name)
    yield


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, as a reader has it after cloning."""
    return copy_project(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def clone(repository: Path, in_empty_folder: Path) -> Path:
    """A copy for a reader who is at one section."""
    return Path(shutil.copytree(repository, in_empty_folder / "candlewick"))


def perform(
    title: str, clone: Path, read_as: Mapping[str, str] | None = None, **changes: str
) -> str:
    """Run a section's commands, one after the other; return all that they say.

    What is shown right below them is part of it.

    Parameters
    ----------
    title : str
    clone : Path
        Where the reader is.
    read_as : mapping of str to str, optional
        What to read instead of a name or number of the page.
    **changes : str
        What the reader has in the environment.
    """
    script = "\n".join(SECTIONS[title].blocks("bash"))
    for there, here in (read_as or {}).items():
        assert there in script, there
        script = script.replace(there, here)
    # The environment there is will do. And a reader waits until a server says that it is ready.
    script = script.replace("make ", "make -o .venv/.runtime ")
    wait = 'until (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>&-; do kill -0 $!; sleep 0.1; done'
    script = re.sub(r" &$", f" &\n{wait}", script, flags=re.MULTILINE)
    log = clone.parent / "said.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=clone,
            env=environment(HOME=str(clone.parent), CANDLEWICK_STATE=str(clone.parent), **changes),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(timeout=600)
        finally:
            with suppress(ProcessLookupError):  # those that it has left in the background
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
    said = log.read_text()
    assert process.returncode == 0, said
    for _, shown in SECTIONS[title].sessions():
        assert [line for line in shown if line not in said.splitlines()] == []
    return said


def runs(client: mlflow.MlflowClient) -> list[Run]:
    """Return all runs of a store."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments))


def snapshots(found: list[Run]) -> set[str]:
    """Return the IDs of the snapshots that runs have made or used."""
    return {run.data.tags[SNAPSHOT] for run in found if SNAPSHOT in run.data.tags}


@pytest.mark.slow
def test_alone_in_a_folder(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perform("A folder of your own", clone)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    database = runs(mlflow.MlflowClient(f"sqlite:///{clone / 'mlflow.db'}"))
    files = runs(mlflow.MlflowClient((clone / "mlruns").as_uri()))
    assert len(database) == len(files) == 1
    assert len(snapshots(database + files)) == 1
    perform("When something fails", clone)


@pytest.mark.thorough
def test_a_server_for_a_few_with_users(clone: Path) -> None:
    port = str(free_port())
    said = perform("A server for a few", clone, {":5000": f":{port}"}, PORT=port)
    assert "robin may read, not write" in said
    kept = clone / "server"
    (run,) = runs(mlflow.MlflowClient(f"sqlite:///{kept / 'mlflow.db'}"))
    assert run.data.tags["mlflow.user"]
    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert list((kept / "mlartifacts").rglob("manifest.json"))
    for path in (kept, kept / "mlflow.db", kept / "basic_auth.db", kept / "secret_key"):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.thorough
def test_a_server_for_a_team(clone: Path, postgres_server: Postgres, in_empty_folder: Path) -> None:
    with composed(in_empty_folder, postgres_server) as stack:
        alice = subprocess.run(
            ["python", "deploy/add_user.py", "alice", "--may=promote"],
            cwd=clone,
            env=environment(
                MLFLOW_TRACKING_URI=stack.uri,
                MLFLOW_TRACKING_USERNAME="admin",
                MLFLOW_TRACKING_PASSWORD=stack.values["MLFLOW_AUTH_ADMIN_PASSWORD"],
            ),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        said = perform(
            "A server for a team", clone, {"https://mlflow.example.org": stack.uri}, ALICE=alice
        )
        assert "stock_direction version 1 is now champion" in said
        assert alice not in said
        client = mlflow.MlflowClient(stack.database)
        assert {run.info.status for run in runs(client)} == {"FINISHED"}
        assert client.get_model_version_by_alias("stock_direction", "champion").version == 1
        assert not (clone / "mlruns").exists()


@pytest.mark.thorough
def test_without_a_server(
    clone: Path, postgres_server: Postgres, s3_server: S3, gcs_server: Gcs
) -> None:
    database = postgres_server.create_database()
    address = database.partition("://")[2].replace(f":{postgres_server.password}@", "@")
    on_s3, on_gcs = s3_server.create_bucket(), gcs_server.create_bucket()
    passwords = clone.parent / ".pgpass"
    passwords.write_text(f"127.0.0.1:{postgres_server.port}:*:*:{postgres_server.password}\n")
    passwords.chmod(0o600)
    here = {
        "candlewick@db.example.org:5432/mlflow": address,
        "MLFLOW_S3_BUCKET=candlewick-artifacts": f"MLFLOW_S3_BUCKET={on_s3}",
        "MLFLOW_GCS_BUCKET=candlewick-artifacts": f"MLFLOW_GCS_BUCKET={on_gcs}",
    }
    clouds = s3_server.environment() | gcs_server.environment()
    said = perform("Without a server", clone, here, **clouds)
    assert postgres_server.password not in said
    found = runs(mlflow.MlflowClient(database))
    assert len(found) == 2
    assert len(snapshots(found)) == 1
    for server, bucket in ((s3_server, on_s3), (gcs_server, on_gcs)):
        assert any(name.endswith("manifest.json") for name in server.names(bucket))
    assert not (clone / "mlruns").exists()
    assert (clone / ".env").stat().st_mode & 0o077 == 0


@pytest.mark.thorough
def test_a_kubernetes_job(clone: Path, migrated_database: Path, in_empty_folder: Path) -> None:
    (clone / ".env").write_text("MLFLOW_TRACKING_PASSWORD=not-for-the-image\n")
    database = in_empty_folder / "tracking.db"
    shutil.copy(migrated_database, database)
    login = {"MLFLOW_TRACKING_USERNAME": "alice", "MLFLOW_TRACKING_PASSWORD": "of-alice"}
    with platform(in_empty_folder, {"candlewick-tracking": login}) as (engine, cluster, finding):
        perform("Kubernetes", clone, MLFLOW_TRACKING_URI=f"sqlite:///{database}", **finding)
    (job,) = cluster.jobs.values()
    assert job["status"]["conditions"][0]["type"] == "Complete", cluster.said
    (run,) = runs(mlflow.MlflowClient(f"sqlite:///{database}"))
    assert run.info.status == "FINISHED"
    assert run.data.params["horizon"] == "5"
    assert run.data.tags[SNAPSHOT] in cluster.said

    # The image is the clone's commit on top of the environment's; nothing of the reader's is in it.
    ((name, dockerfile),) = engine.dockerfiles.items()
    assert dockerfile.startswith("FROM registry.example.org/candlewick-environment:0.1.0\n")
    assert (
        name == f"registry.example.org/candlewick:{run.data.tags['mlflow.source.git.commit'][:7]}"
    )
    assert not (engine.root() / ".env").exists()

    # What the template says is still there after MLflow has filled it in.
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"].startswith(f"{name}@sha256:")
    assert container["command"][:3] == ["python", "-m", "steps.featurize"]
    assert pod["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "of-alice" not in str(job)


@pytest.mark.thorough
def test_moving_house(clone: Path, postgres_server: Postgres, s3_server: S3) -> None:
    label = {"name": "direction", "horizon": 1}
    snapshot = make_snapshot(make_table(), feature_set="planted", version="1", label=label)
    old = (clone / "mlruns").as_uri()
    with MLflowLogger("stock_prediction", "featurize", tracking_uri=old) as logger:
        save_snapshot(logger, snapshot, {}, "abc")
    bucket, database = s3_server.create_bucket(), postgres_server.create_database()
    here = {
        "postgresql://candlewick@db.example.org:5432/mlflow": database,
        "candlewick-artifacts": bucket,
    }
    said = perform("Moving house", clone, here, **s3_server.environment())
    assert f'"feature_snapshot_id": "{snapshot.snapshot_id}"' in said
    assert postgres_server.password not in said
    (run,) = runs(mlflow.MlflowClient(database))
    assert run.info.run_id == logger.run_id
    assert run.info.artifact_uri.startswith(f"s3://{bucket}/")
