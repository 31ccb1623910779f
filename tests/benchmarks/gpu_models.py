"""Images and tokens per second of the models behind annotations and filters, against what the device could do.

    python tests/benchmarks/gpu_models.py [--device cuda] [--dtype bf16] [--models dpt beit clip clip_timm vlm]
        [--batches 1 4 16 64] [--steps 32] [--repeat 5] [--compile] [--json FILE] [--tiny]

Run from the repository's root; needs torch, transformers, timm and NumPy, and no weights: architectures of full size
with random numbers, DPT-Large at 384, DPT-BEiT-L at 512, CLIP's ViT-L/14 at 224 (by transformers and by timm),
Qwen3-VL-8B with one image of 512 by 512 and a question of 200 tokens. The work of one item is counted by torch's own
counter of floating-point operations; the arithmetic limit is the device's published dense peak for the number type
divided by that. A step of decoding reads all weights of the language model and the keys and values so far, so its limit
is the slower of arithmetic and memory. A device that is not in the table is measured: one large product of matrices,
one large copy. `--tiny` runs the same code on small architectures in seconds, so that it is known to run where there is
no GPU; its figures mean nothing.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2]))

from storage.torchvision import prepare_torchvision

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MODELS = ("dpt", "beit", "clip", "clip_timm", "vlm")  # those of BUILDERS, and one that also answers
WARM_UP = 2

# Data sheets: dense TFLOP/s in 16 bits with 32-bit sums, in 32 bits without tensor cores, and GB/s of memory.
DEVICES = {
    "B200": (2250, 75, 8000),
    "H200": (989, 67, 4800),
    "H100 PCIe": (756, 51, 2000),
    "H100": (989, 67, 3350),
    "A100": (312, 19.5, 2039),
    "L40S": (362, 91.6, 864),
    "L4": (121, 30.3, 300),
    "A10": (125, 31.2, 600),
    "RTX 4090": (165, 82.6, 1008),
    "RTX 3090": (71, 35.6, 936),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What a device could do: floating-point operations and bytes a second, and how that is known."""

    name: str
    flops: float
    bandwidth: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement. flops: of one item. limit: items per second that the device could do. share: of that limit."""

    model: str
    phase: str
    batch: int
    milliseconds: float
    per_second: float
    flops: float
    limit: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How everything is run."""

    device: str
    dtype: torch.dtype
    repeat: int
    is_tiny: bool
    is_compiled: bool


def peak(setup: Setup) -> Peak:
    """Return the published peak of the device, or a measured one."""
    name = torch.cuda.get_device_name(setup.device) if setup.device.startswith("cuda") else "CPU"
    for known, (narrow, wide, gigabytes) in DEVICES.items():
        if known in name:
            flops = (wide if setup.dtype == torch.float32 else narrow) * 1e12
            return Peak(name=name, flops=flops, bandwidth=gigabytes * 1e9, source="data sheet")
    side = 512 if setup.is_tiny else 4096
    first, second = (torch.randn(side, side, device=setup.device).to(setup.dtype) for _ in range(2))
    product = seconds(lambda: first @ second, setup)
    source, target = (torch.empty(side * side * 4, device=setup.device) for _ in range(2))
    copy = seconds(lambda: target.copy_(source), setup)
    flops, bandwidth = 2 * side**3 / product, 2 * source.nbytes / copy
    return Peak(name=name, flops=flops, bandwidth=bandwidth, source="measured product and copy")


def seconds(run: Callable[[], Any], setup: Setup) -> float:
    """Return the median time of one call, after some to warm up."""
    times = []
    for index in range(WARM_UP + setup.repeat):
        _wait(setup.device)
        begun = time.perf_counter()
        run()
        _wait(setup.device)
        if index >= WARM_UP:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def counted(run: Callable[[], Any]) -> float:
    """Return the floating-point operations of one call, a product and a sum counted as two."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


# -- networks that see images ---------------------------------------------------------------------------------------


def dpt(*, is_tiny: bool) -> tuple[Any, int]:
    """Return DPT-Large and the side of its image (Ranftl et al. 2021)."""
    import transformers

    if is_tiny:
        return transformers.DPTForDepthEstimation(transformers.DPTConfig(**_small(32), **_small_neck())), 32
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    neck = {"backbone_out_indices": [5, 11, 17, 23], "neck_hidden_sizes": [256, 512, 1024, 1024]}
    return transformers.DPTForDepthEstimation(transformers.DPTConfig(**large, **neck)), 384


def beit(*, is_tiny: bool) -> tuple[Any, int]:
    """Return DPT-BEiT-L and the side of its image (Birkl et al. 2023)."""
    import transformers

    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    large |= {"image_size": 512}
    stages = ["stage1", "stage2", "stage3", "stage4"] if is_tiny else ["stage6", "stage12", "stage18", "stage24"]
    sizes, neck = (_small(32), _small_neck()) if is_tiny else (large, {"neck_hidden_sizes": [256, 512, 1024, 1024]})
    neck.pop("backbone_out_indices", None)
    backbone = transformers.BeitConfig(
        **sizes, use_relative_position_bias=True, reshape_hidden_states=False, out_features=stages
    )
    config = transformers.DPTConfig(backbone_config=backbone, **neck)
    return transformers.DPTForDepthEstimation(config), backbone.image_size


def clip(*, is_tiny: bool) -> tuple[Any, int]:
    """Return CLIP's ViT-L/14 for images and the side of its image (Radford et al. 2021)."""
    import transformers

    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    sizes = _small(32) | {"patch_size": 16} if is_tiny else large | {"patch_size": 14, "image_size": 224}
    config = transformers.CLIPVisionConfig(**sizes, projection_dim=64 if is_tiny else 768)
    return transformers.CLIPVisionModelWithProjection(config), config.image_size


def clip_timm(*, is_tiny: bool) -> tuple[Any, int]:
    """Return the same network as timm has it."""
    import timm

    if is_tiny:
        return timm.models.vision_transformer.VisionTransformer(img_size=32, embed_dim=64, depth=4, num_heads=2), 32
    return timm.create_model("vit_large_patch14_clip_224", pretrained=False, num_classes=768), 224


def _small(side: int) -> dict[str, Any]:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2}
    return sizes | {"image_size": side}


def _small_neck() -> dict[str, Any]:
    return {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16, "backbone_out_indices": [0, 1, 2, 3]}


BUILDERS = {"dpt": dpt, "beit": beit, "clip": clip, "clip_timm": clip_timm}


def of_images(name: str, setup: Setup, limit: Peak, batches: Sequence[int]) -> Iterator[Row]:
    """Yield images per second of a network over batch sizes."""
    with torch.device(setup.device):
        model, side = BUILDERS[name](is_tiny=setup.is_tiny)
    model = model.to(setup.device, setup.dtype).eval()
    one = torch.randn(1, 3, side, side, device=setup.device).to(setup.dtype)
    flops = counted(lambda: model(one))
    runner = torch.compile(model) if setup.is_compiled else model
    for batch in batches:
        pixels = one.expand(batch, -1, -1, -1).contiguous()
        took = seconds(lambda pixels=pixels: runner(pixels), setup)
        yield _row(name, "forward", batch, took, batch, flops, limit.flops / flops)


def _row(model: str, phase: str, batch: int, took: float, items: float, flops: float, limit: float) -> Row:
    return Row(
        model=model,
        phase=phase,
        batch=batch,
        milliseconds=took * 1e3,
        per_second=items / took,
        flops=flops,
        limit=limit,
        share=items / took / limit,
    )


# -- Qwen3-VL -------------------------------------------------------------------------------------------------------


def vlm(*, is_tiny: bool) -> tuple[Any, int, int]:
    """Return Qwen3-VL-8B, the side of its image and the tokens of its question."""
    import transformers

    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text = {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32}
    text |= {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "rope_parameters": rope}
    vision: dict[str, Any] = {"out_hidden_size": 4096}  # the rest is transformers' default: 27 layers of 1152
    ids = {"image_token_id": 151655, "vision_start_token_id": 151652, "vision_end_token_id": 151653}
    if is_tiny:
        text |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"num_key_value_heads": 1, "head_dim": 32, "vocab_size": 100}
        text["rope_parameters"] = rope | {"mrope_section": [8, 4, 4]}
        vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        ids = {"image_token_id": 95, "vision_start_token_id": 96, "vision_end_token_id": 97}
    config = transformers.Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    return transformers.Qwen3VLForConditionalGeneration(config), 64 if is_tiny else 512, 8 if is_tiny else 200


def of_grades(setup: Setup, limit: Peak, batches: Sequence[int], steps: int) -> Iterator[Row]:
    """Yield images per second of reading image and question, and tokens per second of answering."""
    torch.set_default_dtype(setup.dtype)  # so that 8 billion numbers are never there in 32 bits
    try:
        with torch.device(setup.device):
            model, side, words = vlm(is_tiny=setup.is_tiny)
    finally:
        torch.set_default_dtype(torch.float32)
    model = model.eval()
    flops = counted(lambda: model(**_question(model, side, words, 1, setup)))
    weights = sum(item.nbytes for item in (*model.model.language_model.parameters(), *model.lm_head.parameters()))
    weights -= model.get_input_embeddings().weight.nbytes  # of which a step reads one row
    for batch in batches:
        inputs = _question(model, side, words, batch, setup)
        took = seconds(lambda inputs=inputs: model(**inputs, logits_to_keep=1), setup)
        yield _row("vlm", "prefill", batch, took, batch, flops, limit.flops / flops)
        yield _decoded(model, inputs, weights, setup, limit, steps)


def _question(model: Any, side: int, words: int, batch: int, setup: Setup) -> dict[str, Any]:
    config = model.config
    patch, merge = config.vision_config.patch_size, config.vision_config.spatial_merge_size
    grid = side // patch
    image = [config.vision_start_token_id, *[config.image_token_id] * (grid // merge) ** 2, config.vision_end_token_id]
    ids = torch.tensor([image + [1 + index % 90 for index in range(words)]] * batch, device=setup.device)
    wide = config.vision_config.in_channels * config.vision_config.temporal_patch_size * patch**2
    pixels = torch.randn(batch * grid**2, wide, device=setup.device).to(setup.dtype)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, grid, grid]] * batch, device=setup.device),
    }


def _decoded(model: Any, inputs: dict[str, Any], weights: float, setup: Setup, limit: Peak, steps: int) -> Row:
    batch, length = inputs["input_ids"].shape
    state = model(**inputs, logits_to_keep=1, use_cache=True)
    cache, token = state.past_key_values, state.logits[:, -1:].argmax(dim=-1)
    step = lambda: model(input_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)  # noqa: E731
    flops = counted(step) / batch
    _wait(setup.device)
    begun = time.perf_counter()
    for _ in range(steps):
        token = step().logits[:, -1:].argmax(dim=-1)
    _wait(setup.device)
    took = (time.perf_counter() - begun) / steps
    text = model.config.text_config
    kept = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * setup.dtype.itemsize
    possible = decoding_limit(limit, batch=batch, flops=flops, weights=weights, kept=(length + steps / 2) * kept)
    return _row("vlm", "decode", batch, took, batch, flops, possible)


def decoding_limit(limit: Peak, *, batch: int, flops: float, weights: float, kept: float) -> float:
    """Return the tokens per second that a device could decode.

    flops: of one token. weights: bytes that a step reads, whatever the batch. kept: bytes of keys and values that it
    reads for each sequence.
    """
    return batch / max(batch * flops / limit.flops, (weights + batch * kept) / limit.bandwidth)


# -- the command ----------------------------------------------------------------------------------------------------


def measured(models: Sequence[str], setup: Setup, limit: Peak, batches: Sequence[int], steps: int) -> Iterator[Row]:
    """Yield one row after another; a batch that does not fit ends its model."""
    for name in models:
        rows = of_grades(setup, limit, batches, steps) if name == "vlm" else of_images(name, setup, limit, batches)
        try:
            with torch.inference_mode():
                yield from rows
        except torch.OutOfMemoryError:
            sys.stdout.write(f"{name}: the next batch does not fit into the memory of the device\n")
            torch.cuda.empty_cache()


def main(arguments: Sequence[str]) -> list[Row]:
    """Measure, tell and return the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=TYPES, default="bf16")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--steps", type=int, default=32, help="tokens decoded")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    prepare_torchvision()  # transformers and timm import it where it is installed
    setup = Setup(
        device=given.device,
        dtype=TYPES[given.dtype],
        repeat=given.repeat,
        is_tiny=given.tiny,
        is_compiled=given.compile,
    )
    with torch.inference_mode():
        limit = peak(setup)
    sys.stdout.write(
        f"{limit.name}, {given.dtype}, torch {torch.__version__}: {limit.flops / 1e12:.3g} TFLOP/s and "
        f"{limit.bandwidth / 1e9:.0f} GB/s ({limit.source})\n"
        f"{'model':<10}{'phase':<9}{'batch':>6}{'ms':>10}{'per s':>10}{'GFLOP':>10}{'limit/s':>12}{'share':>8}\n"
    )
    rows = []
    for row in measured(given.models, setup, limit, given.batches, given.steps):
        rows.append(row)
        sys.stdout.write(
            f"{row.model:<10}{row.phase:<9}{row.batch:>6}{row.milliseconds:>10.2f}{row.per_second:>10.1f}"
            f"{row.flops / 1e9:>10.3f}{row.limit:>12.1f}{row.share:>8.1%}\n"
        )
        sys.stdout.flush()
    if given.json:
        given.json.write_text(json.dumps({"peak": asdict(limit), "rows": [asdict(row) for row in rows]}, indent=1))
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
