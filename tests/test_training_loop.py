"""The loop: what was killed goes on as if nothing had happened, and one process is as good as another."""

# ruff: noqa: E402  # without torch these tests are skipped before anything that needs it is imported

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

from flows.training_settings import parse_training
from storage.errors import PairForgeError, SettingsError, ShardError
from storage.samples import decode_image
from tasks.train import check
from tests.small_training import dataset, lines, settings, train, train_apart, weights
from training.loop import states
from training.loop.trainer import Hooks


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a folder with a dataset and, in `whole`, a training that was never interrupted."""
    folder = tmp_path_factory.mktemp("training")
    dataset(folder)
    assert train(settings(folder, "whole")).step == 12
    return folder


def assert_same(one, other):
    a, b = weights(one / "model.safetensors"), weights(other / "model.safetensors")
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def test_a_training_lowers_the_loss_and_leaves_its_numbers_and_pictures(root):
    numbers = lines(root / "whole")
    first, *_, last = (line["val/loss"] for line in numbers if "val/loss" in line)
    assert last < 0.9 * first
    assert {"val/loss/haze", "val/loss_t/0.1", "val/loss_t/0.9/noise", "val/psnr/blur"} <= numbers[0].keys()
    assert {"train/loss", "train/lr", "train/grad_norm"} <= numbers[1].keys()
    names = {path.name for path in (root / "whole" / "samples").iterdir()}
    assert names == {"batch-000000.png", "samples-000000.png", "samples-000006.png", "samples-000012.png"}


def test_a_finished_training_is_not_done_again(root):
    before = (root / "whole" / "metrics.jsonl").read_bytes()
    assert train(settings(root, "whole")).weights == root / "whole" / "model.safetensors"
    assert (root / "whole" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("at", [1, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow), 8])
def test_a_stopped_training_goes_on_bit_for_bit(root, at):
    asked = []
    content = settings(root, f"stopped-{at}")
    stopped = train(content, hooks=Hooks(stop=lambda: len(asked) == at or asked.append(1)))
    assert stopped.weights is None
    assert train(content).step == 12
    assert_same(root / "whole", root / f"stopped-{at}")
    assert lines(root / f"stopped-{at}") == lines(root / "whole")


# Each checkpoint publishes its memory and the metrics are published at the start, so these places come before, within
# and after writing a checkpoint.
@pytest.mark.parametrize(
    "place", ["data.before_write:kill@9", pytest.param("data.after_rename:kill@7", marks=pytest.mark.slow)]
)
def test_a_killed_training_goes_on_bit_for_bit(root, tmp_path, place):
    content = settings(root, f"killed-{place[5:11]}")
    killed = train_apart(content, tmp_path / "run.json", environment={"PAIRFORGE_FAILPOINT": place})
    assert killed.returncode == -9, killed.stderr
    assert not (root / content["output"] / "model.safetensors").exists()
    assert train(content).step == 12
    assert_same(root / "whole", root / content["output"])
    assert lines(root / content["output"]) == lines(root / "whole")


@pytest.mark.parametrize("reading", [{"readers": 1}, {"readers": 3, "ahead": 5}])
def test_how_examples_are_read_changes_nothing(root, reading):
    content = settings(root, f"reading-{reading['readers']}", data=reading)
    train(content)
    assert_same(root / "whole", root / content["output"])


def test_micro_batches_add_up_to_the_batch(root):
    content = settings(root, "micro", micro=2)
    train(content)
    whole, micro = (weights(root / name / "model.safetensors") for name in ("whole", "micro"))
    assert max(float((whole[name] - micro[name]).abs().max()) for name in whole) < 1e-4


def test_what_was_begun_otherwise_is_not_gone_on_with(root):
    content = settings(root, "otherwise", steps=6)
    train(content)
    with pytest.raises(SettingsError, match=r"was begun with optimizer\.learning_rate 0\.002, now it is 0\.001"):
        train(settings(root, "otherwise", optimizer={"learning_rate": 1e-3}))


def test_a_broken_checkpoint_ends_in_one_sentence(root):
    content = settings(root, "broken", steps=6)
    train(content)
    shutil.rmtree(root / "broken" / "checkpoints" / "step-000003")
    (root / "broken" / "model.safetensors").unlink()
    [path] = (root / "broken" / "checkpoints" / "step-000006").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"step-000006 is damaged \(.*\); remove it to go on from the one before"):
        train(content)


def test_a_checkpoint_that_is_there_is_not_written_again(root):
    last = root / "whole" / "checkpoints" / "step-000012"
    before = {path.name: path.stat().st_mtime_ns for path in last.iterdir()}
    (root / "whole" / "model.safetensors").rename(root / "exported")
    train(settings(root, "whole"))  # killed after its last checkpoint, a run only exports
    assert {path.name: path.stat().st_mtime_ns for path in last.iterdir()} == before
    assert (root / "whole" / "model.safetensors").read_bytes() == (root / "exported").read_bytes()


def test_only_the_newest_checkpoints_are_kept(root):
    kept = [path.name for path in states.found(root / "whole" / "checkpoints")]
    assert kept == ["step-000009", "step-000012"]


# With `compute` unlike the weights' type the model is sharded, over one rank.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torchao's own
@pytest.mark.parametrize(
    ("kept", "states_in", "compute"),
    [
        pytest.param("bf16-stochastic", "fp32", "bf16", marks=pytest.mark.slow),
        pytest.param("bf16-stochastic", "fp32", "fp32", marks=pytest.mark.slow),
        ("bf16-stochastic", "8bit", "bf16"),
        pytest.param("fp32", "8bit", "fp32", marks=pytest.mark.slow),
    ],
)
def test_narrow_weights_and_moments_go_on_bit_for_bit(root, kept, states_in, compute):
    pytest.importorskip("torchao", reason="torchao is not installed: install PairForge's `train` extra")
    asked = []
    optimizer = {"weights": kept, "states": states_in, "average": 0.0}
    name = f"{kept}-{states_in}-{compute}"
    small = {"steps": 4, "optimizer": optimizer, "model": {"compute": compute}, "run": {"rhythm": {"validate": 0}}}
    with torch.compiler.set_stance("force_eager"):
        train(settings(root, f"{name}-whole", **small))
        train(settings(root, name, **small), hooks=Hooks(stop=lambda: len(asked) == 1 or asked.append(1)))
        assert [path.name for path in states.found(root / name / "checkpoints")] == ["step-000002"]
        train(settings(root, name, **small))
    assert_same(root / f"{name}-whole", root / name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torchao's own
def test_sharded_eight_bit_moments_go_on_within_a_code(root):
    pytest.importorskip("torchao", reason="torchao is not installed: install PairForge's `train` extra")
    small = {"steps": 4, "model": {"compute": "bf16"}, "run": {"rhythm": {"checkpoint": 2, "log": 1, "validate": 0}}}
    content = settings(root, "codes", optimizer={"states": "8bit", "average": 0.0}, **small)
    with torch.compiler.set_stance("force_eager"):
        train(content)
        whole = weights(root / "codes" / "model.safetensors")
        shutil.rmtree(root / "codes" / "checkpoints" / "step-000004")
        train(content)
    again = weights(root / "codes" / "model.safetensors")
    assert max(float((whole[name] - again[name]).abs().max()) for name in whole) < 1e-3  # half a step


def test_muon_goes_on_bit_for_bit(root):
    asked = []
    whole, stopped = (settings(root, f"muon-{name}", optimizer={"kind": "muon"}) for name in ("whole", "stopped"))
    train(whole)
    train(stopped, hooks=Hooks(stop=lambda: len(asked) == 5 or asked.append(1)))
    train(stopped)
    assert_same(root / whole["output"], root / stopped["output"])


def test_muon_is_for_one_rank(root):
    content = settings(root, "muon-bf16", model={"compute": "bf16"}, optimizer={"kind": "muon"})
    with pytest.raises(SettingsError, match="muon needs matrices whole"):
        train(content)


def test_muon_on_several_ranks_is_refused_before_they_start(root):
    content = settings(root, "muon-ranks", optimizer={"kind": "muon"}, run={"workers": 2})
    options = parse_training(content, origin="a test", base=Path.cwd())
    with pytest.raises(SettingsError, match="muon needs matrices whole"):
        check(options)


def test_bfloat16_weights_with_eight_bit_moments_are_for_one_rank(root):
    content = settings(root, "both", optimizer={"weights": "bf16-stochastic", "states": "8bit"})
    with pytest.raises(SettingsError, match="choose fp32 weights, fp32 states, or one rank that computes in bf16"):
        train(content)


def test_a_share_of_a_task_without_pairs_is_refused(root):
    content = settings(root, "shares", curriculum={"shares": {"sand": 2.0}})
    with pytest.raises(SettingsError, match=r"no pair is of task sand; there are blur, haze, noise"):
        train(content)


@pytest.mark.parametrize(
    "curriculum",
    [
        pytest.param({"kind": "incremental", "isolated": 0.5}, marks=pytest.mark.slow),
        {"kind": "equilibrium", "every": 4, "seats": 12, "alpha": 5.0},
    ],
    ids=["incremental", "equilibrium"],
)
def test_a_schedule_goes_on_bit_for_bit(root, curriculum):
    asked = []
    rhythm = {"log": 1, "checkpoint": 0, "validate": 4}
    whole, stopped = (
        settings(root, f"{curriculum['kind']}-{name}", curriculum=curriculum, run={"rhythm": rhythm})
        for name in ("whole", "stopped")
    )
    train(whole)
    train(stopped, hooks=Hooks(stop=lambda: len(asked) == 8 or asked.append(1)))
    train(stopped)
    assert_same(root / whole["output"], root / stopped["output"])
    assert lines(root / whole["output"]) == lines(root / stopped["output"])


def test_shares_of_tasks_follow_their_scores(root):
    numbers = lines(root / "equilibrium-whole")
    shares = [line for line in numbers if "train/share/haze" in line]
    assert [line["step"] for line in shares] == [4, 8]
    for line in shares:
        assert sum(value for name, value in line.items() if name.startswith("train/share/")) == pytest.approx(1)
    first, second = ({line["step"]: line for line in numbers if "val/psnr/haze" in line}[step] for step in (4, 8))
    gains = {task: second[f"val/psnr/{task}"] - first[f"val/psnr/{task}"] for task in ("blur", "haze", "noise")}
    most, least = max(gains, key=gains.get), min(gains, key=gains.get)
    assert shares[1][f"train/share/{most}"] < shares[0][f"train/share/{most}"]
    assert shares[1][f"train/share/{least}"] > shares[0][f"train/share/{least}"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # peft's own
def test_adapters_train_go_on_and_are_exported(root):
    pytest.importorskip("peft", reason="peft is not installed: install PairForge's `train` extra")
    asked = []
    start = root / "whole" / "model.safetensors"
    adapted = {"weights": str(start), "train": "lora", "rank": 2, "alpha": 2}
    contents = [settings(root, name, steps=4) | {"model": adapted} for name in ("lora-whole", "lora")]
    contents.append(settings(root, "lora-bf16", steps=4) | {"model": adapted | {"compute": "bf16"}})  # sharded
    train(contents[0])
    train(contents[1], hooks=Hooks(stop=lambda: len(asked) == 1 or asked.append(1)))
    train(contents[1])
    train(contents[2])
    assert_same(root / "lora-whole", root / "lora")
    before, after = weights(start), weights(root / "lora" / "model.safetensors")
    sharded = weights(root / "lora-bf16" / "model.safetensors")
    changed = {name.rpartition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "double_blocks.0.img_attn.qkv" in changed
    assert not changed & {"img_in", "time_in.in_layer"}
    assert 0 < max(float((after[name] - sharded[name]).abs().max()) for name in after) < 0.01


def test_a_loss_that_is_not_finite_ends_the_run_with_the_checkpoint_before(root):
    content = settings(root, "infinite", optimizer={"learning_rate": 1e30, "warmup": 0, "clip": 1e30, "average": 0.0})
    with pytest.raises(PairForgeError, match=r"the loss is \S+ at step \d+; the checkpoint before is whole"):
        train(content)
    assert not (root / "infinite" / "model.safetensors").exists()


def test_the_web_style_augmentation_is_put_on_degraded_images(root):
    content = settings(root, "worn", steps=1, data={"augmented": 1.0}, run={"rhythm": {"validate": 0}})
    train(content)
    worn, plain = (
        decode_image((root / name / "samples" / "batch-000000.png").read_bytes()) for name in ("worn", "whole")
    )
    half = worn.shape[1] // 2 - 1  # degraded on the left, clean on the right
    assert np.array_equal(worn[:, -half:], plain[:, -half:])
    assert not np.array_equal(worn[:, :half], plain[:, :half])
