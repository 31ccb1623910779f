"""The benchmark of models runs without a GPU, counts right, and builds what it names at its full size."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("timm")

from tests.benchmarks import gpu_models  # noqa: E402

# Published: millions of parameters (DPT: Ranftl et al. 2021, Table 1; CLIP's image tower; Qwen3-VL-8B's model card).
PARAMETERS = {"dpt": 343, "clip": 304, "clip_timm": 304, "vlm": 8770}


def full_size(name):
    build = gpu_models.vlm if name == "vlm" else gpu_models.BUILDERS[name]
    with torch.device("meta"):
        return build(is_tiny=False)


@pytest.mark.parametrize("name", PARAMETERS)
def test_architectures_have_their_published_size(name):
    model, *_ = full_size(name)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert count == pytest.approx(PARAMETERS[name], rel=0.01)


@pytest.mark.parametrize("name", ["clip", "clip_timm"])
def test_work_is_counted_as_the_formula_says(name):
    model, side = full_size(name)
    pixels = torch.empty(1, 3, side, side, device="meta")
    patches, width, layers, out = (side // 14) ** 2, 1024, 24, 768
    tokens = patches + 1
    block = (
        2 * tokens * 12 * width**2 + 4 * tokens**2 * width
    )  # four projections and a fourfold hidden layer; attention
    expected = 2 * patches * 3 * 14**2 * width + layers * block + 2 * width * out
    assert gpu_models.counted(lambda: model(pixels)) == pytest.approx(expected, rel=1e-3)


def test_it_runs_on_small_architectures_without_a_gpu(tmp_path, capsys):
    options = ["--tiny", "--device", "cpu", "--dtype", "fp32", "--batches", "1", "2", "--repeat", "1", "--steps", "2"]
    rows = gpu_models.main([*options, "--json", str(tmp_path / "rows.json")])
    phases = [(name, "forward") for name in gpu_models.BUILDERS] + [("vlm", "prefill"), ("vlm", "decode")]
    assert {(row.model, row.phase, row.batch) for row in rows} == {
        (*phase, batch) for phase in phases for batch in (1, 2)
    }
    assert all(
        row.per_second > 0 < row.flops and row.share == pytest.approx(row.per_second / row.limit) for row in rows
    )
    assert len(json.loads((tmp_path / "rows.json").read_text())["rows"]) == len(rows)
    assert capsys.readouterr().out.count("\n") == len(rows) + 2


def test_decoding_is_bound_by_the_memory_first_and_by_arithmetic_at_a_large_batch():
    limit = gpu_models.Peak(name="x", flops=1e15, bandwidth=3e12, source="made up")
    sizes = {"flops": 16e9, "weights": 16e9}
    assert gpu_models.decoding_limit(limit, batch=1, kept=0, **sizes) == pytest.approx(3e12 / 16e9)
    assert gpu_models.decoding_limit(limit, batch=10_000, kept=0, **sizes) == pytest.approx(1e15 / 16e9)
    assert gpu_models.decoding_limit(limit, batch=10_000, kept=3e8, **sizes) == pytest.approx(3e12 / 3e8, rel=0.01)
