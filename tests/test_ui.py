"""MLflow's pages on a finished run, in a real browser: tree, curves, pictures, report."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import clean_environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A finished pipeline behind ``mlflow server``: its address, and the run IDs by step."""
    folder = tmp_path_factory.mktemp("ui")
    environment = clean_environment()
    subprocess.run(
        [sys.executable, "-m", "steps.pipeline", "--early_stopping_rounds=0", "--n_estimators=40"],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--port", str(port), "--backend-store-uri", "sqlite:///mlflow.db"]
    with Path(folder, "server.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health")
        yield address, run_ids(folder)
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"{url} never answered")


def run_ids(folder: Path) -> dict[str, str]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("stock_prediction")
    runs = client.search_runs([experiment.experiment_id])
    found = {run.data.tags["candlewick.step"]: run.info.run_id for run in runs}
    return found | {"experiment": experiment.experiment_id}


@pytest.fixture
def page(server: tuple[str, dict[str, str]]) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1400, "height": 700})
        opened.set_default_timeout(60_000)
        yield opened
        browser.close()


def at(server: tuple[str, dict[str, str]], path: str) -> str:
    address, ids = server
    return f"{address}/#/experiments/{ids['experiment']}/{path}"


def test_the_run_tree_is_shown(server: tuple[str, dict[str, str]], page) -> None:
    page.goto(at(server, "runs"))
    link = page.get_by_role("link", name="main", exact=True)
    link.wait_for()
    # Children are collapsed at first.
    assert page.get_by_role("link", name="evaluate", exact=True).count() == 0
    link.locator("xpath=ancestor::*[@role='gridcell'][1]//button").first.click()
    for child in ("featurize", "train", "evaluate"):
        page.get_by_role("link", name=child, exact=True).wait_for()
    if "SCREENSHOT" in os.environ:
        close = page.get_by_role("button", name="Close")
        if close.count():
            close.first.click()
        page.wait_for_timeout(1500)
        page.screenshot(path=os.environ["SCREENSHOT"])


def test_the_parent_tells_the_verdict_and_links_to_its_children(
    server: tuple[str, dict[str, str]], page
) -> None:
    page.goto(at(server, f"runs/{server[1]['main']}"))
    page.get_by_text("than the base rate: AUC").first.wait_for()
    page.get_by_text("auc_roc_low").first.wait_for()
    links = page.get_by_role("link", name="train", exact=True)
    links.nth(1).wait_for()
    described, listed = links.all()
    assert described.get_attribute("href").endswith(server[1]["train"])
    listed.click()
    page.wait_for_url(f"**/runs/{server[1]['train']}**")


def test_training_curves_are_drawn(server: tuple[str, dict[str, str]], page) -> None:
    page.goto(at(server, f"runs/{server[1]['train']}/model-metrics"))
    page.get_by_placeholder("Search metric charts").fill("validation_log_loss")
    page.get_by_text("validation_log_loss").first.wait_for()
    curve = page.locator("path.js-line").first
    curve.wait_for(state="attached")
    # one corner per round, less where the line is straight
    assert curve.get_attribute("d").count("L") > 10


@pytest.mark.parametrize(
    "picture",
    ["confusion_matrix", "roc_curve", "precision_recall", "calibration", "feature_importance"],
)
def test_pictures_are_shown(server: tuple[str, dict[str, str]], page, picture: str) -> None:
    page.goto(at(server, f"runs/{server[1]['evaluate']}/artifacts/plots/{picture}.png"))
    image = page.locator("img[src^=blob]").first
    image.wait_for()
    page.wait_for_function("e => e.naturalWidth > 300", arg=image.element_handle())


def test_the_report_reads_in_the_artifact_viewer(server: tuple[str, dict[str, str]], page) -> None:
    page.goto(at(server, f"runs/{server[1]['evaluate']}/artifacts/report.html"))
    report = page.frame_locator("iframe").last
    report.get_by_role("heading", level=1).wait_for()
    report.get_by_text("than the base rate: AUC").first.wait_for()
    report.get_by_text("REJECTED", exact=True).first.wait_for()
    pictures = report.locator("figure svg")
    assert pictures.count() >= 8
    sizes = pictures.evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
    assert min(sizes) > 100
    if "SCREENSHOT" in os.environ:
        page.screenshot(path=f"{os.environ['SCREENSHOT']}.report.png")
