"""The deployments of deploy/prefect.yaml: registered on a real server, run by a real worker on a tiny folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from flows.__main__ import run
from flows.job import Outcome
from flows.metrics import Metrics
from flows.observers import StageCount
from flows.publish import blank_manifest
from flows.server import LocalServer
from flows.settings import read_settings
from storage.errors import SettingsError
from tests.builds import build_here, tree, write_photographs

ROOT = Path(__file__).parents[1]
FILE = ROOT / "deploy" / "prefect.yaml"
_FILES = {file: file.read_text() for file in sorted((ROOT / "deploy" / "runs").glob("*.toml"))}
RUNS = [file for file, text in _FILES.items() if "\n[source]\n" in text]  # builds
TRAININGS = [file for file, text in _FILES.items() if "\n[optimizer]\n" in text]
BENCHES = [file for file, text in _FILES.items() if "\n[pictures]" in text]
CODE = ("flows", "tasks", "degradations", "filters", "storage", "training")
MANIFEST = blank_manifest(settings_digest="", code_version="", layout={})
STAGES = {"crawl", "clean", "measure-images", "annotate", "degrade", "measure-pairs", "pack"}
SETTINGS = """
seed = 0
output = "{name}"
[source]
folder = "photographs"
[clean]
min_side = 256
[mixture]
variants = 1
weights = {{low_light = 1}}
[run]
workers = 1
"""
# An editable install finds our packages from anywhere; a worker that does not have it must find them by itself.
NOT_INSTALLED = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""
DEPLOY_BY_PATH = """
import sys
from prefect import flow
source = flow.from_source(source=sys.argv[1], entrypoint="flows/build.py:build_dataset")
source.deploy(name="by-path", work_pool_name="pairforge", print_next_steps=False)
"""


def _deployments():
    return yaml.safe_load(FILE.read_text())["deployments"]


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_every_run_file_is_a_whole_settings_file(file):
    settings = read_settings(file)
    assert settings.dataset.name == file.stem
    assert Path(settings.output).name == file.stem


@pytest.mark.parametrize("file", TRAININGS, ids=lambda file: file.stem)
def test_every_other_run_file_is_a_whole_training(file):
    pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
    from flows.training_settings import read_training

    options = read_training(file)
    assert file.stem.removeprefix("train-") == options.stage == Path(options.output).name


def test_the_published_stages_are_those_of_the_paper():
    pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")
    from flows.training_settings import read_training

    transfer, sft = (read_training(ROOT / "deploy" / "runs" / f"train-{stage}.toml") for stage in ("transfer", "sft"))
    one, two = transfer.optimizer, sft.optimizer
    assert (transfer.steps, transfer.batch, one.schedule, one.weight_decay) == (500, 16, "constant", 0)
    assert (sft.steps, sft.batch, two.schedule, two.weight_decay) == (1500, 32, "cosine", 0.01)
    for both in (one, two):
        assert (both.learning_rate, both.warmup, both.clip, both.betas, both.epsilon) == (
            1e-5,
            100,
            1,
            (0.9, 0.95),
            1e-8,
        )
    assert (transfer.model.frozen, sft.model.frozen) == (0, 0.25)
    assert (transfer.curriculum.synthetic, sft.curriculum.synthetic) == (1, 0.2)
    assert transfer.data.size == sft.data.size == 1024
    assert min(transfer.data.augmented, sft.data.augmented) > 0


def test_the_presets_of_the_run_files_do_what_their_names_say():
    shares = {file.stem: read_settings(file).mixture.shares() for file in RUNS}
    assert len(set(shares["small"].values())) == 1
    assert 0.6 < shares["realrestorer"]["blur"] < 0.7
    assert sum(share for name, share in shares["coupled"].items() if "_" in name and name != "low_light") > 0.4


def test_every_run_file_is_deployed_once_and_to_an_output_of_its_own():
    files = [item["parameters"]["settings"] for item in _deployments()]
    assert sorted(files) == [file.relative_to(ROOT).as_posix() for file in sorted(RUNS + TRAININGS + BENCHES)]
    assert sorted(RUNS + TRAININGS + BENCHES) == sorted(_FILES)
    assert len({tomllib.loads(file.read_text())["output"] for file in _FILES}) == len(files)


def test_a_finished_dataset_is_returned_at_once_unless_another_version_was_asked_for(tmp_path):
    from flows.build import build_dataset

    write_photographs(tmp_path / "photographs", count=1)
    file = tmp_path / "build.toml"
    file.write_text(SETTINGS.format(name="dataset"))
    build_here(read_settings(file))
    assert build_dataset.fn(str(file)) == {"version": 1, "unchanged": True}
    with pytest.raises(SettingsError, match=r"version 2 was asked for, but .* comes to version 1"):
        build_dataset.fn(str(file), version=2)


def test_every_alert_asks_for_metrics_and_labels_that_a_build_emits(tmp_path):
    outcome = Outcome(root=tmp_path, manifest=MANIFEST, images={"kept": 1}, pairs={"crash": 1}, unchanged=False)
    with Metrics(tmp_path) as metrics:
        metrics.watch("clean", StageCount(total=2, done=1), True)
        metrics.finish(outcome)
    emitted = (tmp_path / ".work" / "metrics.prom").read_text()
    rules = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())["groups"][0]["rules"]
    asked = [found for rule in rules for found in re.findall(r"(pairforge_\w+)(?:\{([^}]*)\})?", rule["expr"])]
    assert len(asked) >= len(rules) == 3
    for name, label in asked:
        assert re.search(rf"^{name}(\{{.*{re.escape(label)}.*\}})? ", emitted, re.MULTILINE), (name, label)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs, settings of one dataset for each form of deployment, and a copy of the code elsewhere."""
    folder = tmp_path_factory.mktemp("deployment")
    write_photographs(folder / "photographs", count=3)
    for name in ("by-module", "by-path"):
        (folder / f"{name}.toml").write_text(SETTINGS.format(name=name))
    for package in CODE:
        shutil.copytree(ROOT / package, folder / "checkout" / package)
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(NOT_INSTALLED)
    return folder


@pytest.fixture(scope="module")
def finished_runs(folder):
    """Deployments and flow runs by name, after one worker has run what was asked of it; what else the server knows."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    with LocalServer(folder / "server") as server:
        environment = _environment(folder, server.wait())
        with get_client(sync_client=True) as client:
            template = ProcessWorker.get_default_base_job_template()
            client.create_work_pool(WorkPoolCreate(name="pairforge", type="process", base_job_template=template))
            _prefect(environment, ROOT, "deploy", "--all", "--prefect-file", str(FILE))
            _python(environment, folder / "checkout", "-c", DEPLOY_BY_PATH, str(folder / "checkout"))
            found = {item.name: item for item in client.read_deployments()}
            asked = [("small", "by-module"), ("small", "by-module"), ("by-path", "by-path")]
            asked_runs = [
                client.create_flow_run_from_deployment(
                    found[name].id, parameters={"settings": str(folder / f"{settings}.toml")}
                )
                for name, settings in asked
            ]
            _prefect(environment, folder, "worker", "start", "--pool", "pairforge", "--run-once")
            runs = [client.read_flow_run(flow_run.id) for flow_run in asked_runs]
            tasks = client.read_task_runs()
            (folder / "events.json").write_text(_published(client, count=2))
            (folder / "automations.json").write_text(client.request("POST", "/automations/filter", json={}).text)
    return found, runs, tasks


def _published(client, *, count):
    """Return what the server says of published datasets, once there are `count`: it keeps events in batches."""
    wanted = {"filter": {"event": {"name": ["pairforge.dataset.published"]}}}
    deadline = time.monotonic() + 30
    while True:
        answer = client.request("POST", "/events/filter", json=wanted)
        if len(answer.json()["events"]) >= count or time.monotonic() > deadline:
            return answer.text
        time.sleep(0.5)


def _environment(folder, url):
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "RAY", "PYTHONPATH"))}
    home = str(folder / "home")
    return known | {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": home,
        "PYTHONPATH": str(folder / "hook"),
        "DO_NOT_TRACK": "1",
    }


def _prefect(environment, cwd, *arguments):
    _python(environment, cwd, "-m", "prefect", "--no-prompt", *arguments)


def _python(environment, cwd, *arguments):
    command = [sys.executable, *arguments]
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.stack
@pytest.mark.timeout(600)
class TestOnAServer:
    """Everything below shares one server and one worker."""

    def test_each_run_file_is_registered_for_one_run_at_a_time(self, finished_runs):
        found, _, _ = finished_runs
        others = {"by-path", "tiny", "train-transfer", "train-sft", "bench"}
        assert set(found) == {"small", "realrestorer", "coupled", *others}
        for name in ("small", "realrestorer", "coupled"):
            assert found[name].entrypoint == "flows.build.build_dataset"
            assert found[name].global_concurrency_limit.limit == 1
            assert found[name].concurrency_options.collision_strategy.value == "ENQUEUE"
            assert [schedule.active for schedule in found[name].schedules] == [False]
            assert set(found[name].parameters) == set(found[name].parameter_openapi_schema["properties"])

    def test_a_worker_builds_by_module_and_by_path_though_nothing_is_installed(self, finished_runs, folder):
        _, (one, other, by_path), _ = finished_runs
        assert by_path.state.name == "Completed", by_path.state.message
        assert "Completed" in (one.state.name, other.state.name), (one.state.message, other.state.message)
        assert tree(folder / "by-module") == tree(folder / "by-path") != {}

    def test_a_second_run_of_a_dataset_waits_for_the_first(self, finished_runs):
        _, (one, other, _), _ = finished_runs
        assert sorted([one.state.name, other.state.name]) == ["AwaitingConcurrencySlot", "Completed"]

    def test_what_a_worker_built_is_whole(self, finished_runs, folder, capsys):
        assert run(["verify", str(folder / "by-path"), "--replay", "1", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["hash_errors"] == 0
        assert found["replayed"] == found["identical"] == 1
        assert not (folder / "by-path" / ".work" / "lease.json").exists()

    def test_runs_keep_their_tags_and_every_wave_is_recorded(self, finished_runs, folder):
        _, runs, tasks = finished_runs
        for flow_run in (item for item in runs if item.state.name == "Completed"):
            name = Path(flow_run.parameters["settings"]).stem
            assert f"dataset:{folder / name}" in flow_run.tags
            assert name == "by-path" or {"pairforge", "build"} <= set(flow_run.tags)
            waves = [task for task in tasks if task.flow_run_id == flow_run.id]
            assert {wave.name.rsplit("-", 1)[0] for wave in waves} == STAGES
            assert {wave.state.type.value for wave in waves} == {"COMPLETED"}

    def test_a_published_dataset_is_announced_and_a_training_waits_for_it(self, finished_runs, folder):
        events = json.loads((folder / "events.json").read_text())["events"]
        told = {(event["resource"]["prefect.resource.id"], event["payload"]["output"]) for event in events}
        assert told == {("pairforge.dataset.pairforge", str(folder / name)) for name in ("by-module", "by-path")}
        [automation] = json.loads((folder / "automations.json").read_text())
        trigger, [action] = automation["trigger"], automation["actions"]
        assert trigger["match"] == {"prefect.resource.id": "pairforge.dataset.small"}
        assert trigger["expect"] == ["pairforge.dataset.published"]
        assert action["deployment_id"] == str(finished_runs[0]["tiny"].id)
