"""Several ranks: a sharded model on two CPU processes, its checkpoint on one, and Ray Train when a rank is killed."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import shutil
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from tests.small_training import dataset, lines, settings, train, train_apart, weights

TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1")
# Rank 0 publishes the metrics, two pictures, a checkpoint, a picture, a checkpoint, and dies at the next: of step 9. A
# run that goes on from step 6 publishes less than seven times.
KILL = {"PAIRFORGE_FAILPOINT": "data.before_write:kill@7"}


def differences(one, other):
    a, b = (weights(folder / "model.safetensors") for folder in (one, other))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with a dataset, a training of one rank, and one of two of which one was killed on the way."""
    folder = tmp_path_factory.mktemp("ranks")
    dataset(folder)
    train(settings(folder, "one"))
    done = train_apart(settings(folder, "two"), folder / "two.json", launcher=TWO, environment=KILL, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "-9" in done.stderr
    return folder


def test_two_ranks_of_which_one_was_killed_come_to_the_weights_of_one(root):
    assert len(list((root / "two" / "checkpoints" / "step-000012").glob("*.safetensors"))) == 2
    assert differences(root / "one", root / "two") <= 1e-4


def test_two_ranks_log_the_samples_of_both(root):
    one, two = lines(root / "one"), lines(root / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        assert max(abs(a[name] - b[name]) for name in a if "gain" not in name and "psnr" not in name) < 1e-3


def test_one_rank_goes_on_from_the_checkpoint_of_two(root):
    shutil.copytree(root / "two", root / "fewer")
    shutil.rmtree(root / "fewer" / "checkpoints" / "step-000012")
    (root / "fewer" / "model.safetensors").unlink()
    assert train(settings(root, "fewer")).step == 12
    assert differences(root / "one", root / "fewer") <= 1e-4


@pytest.mark.slow
@pytest.mark.stack
def test_ray_train_starts_the_ranks_again_when_one_is_killed(root, monkeypatch):
    pytest.importorskip("pandas", reason="Ray Train is not installed: install ray[train]")
    content = settings(root, "ray", run={"workers": 2, "restarts": 3})
    done = train_apart(content, root / "ray.json", environment=KILL, program="ray")
    assert done.returncode == 0, done.stderr
    assert differences(root / "one", root / "ray") <= 1e-4


@pytest.mark.slow
@pytest.mark.stack
def test_ray_train_tells_what_a_rank_raised(root):
    pytest.importorskip("pandas", reason="Ray Train is not installed: install ray[train]")
    content = settings(root, "ray-wrong", data={"tasks": ["snow"]}, run={"workers": 2, "restarts": 0})
    done = train_apart(content, root / "wrong.json", program="ray")
    assert "SettingsError: " in done.stderr
    assert "of task snow; there are blur, haze, noise" in done.stderr
