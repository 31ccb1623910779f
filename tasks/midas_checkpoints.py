"""MiDaS's own checkpoints, whose backbones are timm's, as a folder that transformers and the `midas` annotator read.

DPT-Large and DPT-Hybrid of MiDaS 3 (Ranftl et al. 2021, arXiv:2103.13413) and the BEiT models of MiDaS 3.1 (Birkl et
al. 2023, arXiv:2307.14460). The weights stay as they are: names change, the joint projection of queries, keys and
values is cut into three, and what a DPT does not compute with, the classifier and BEiT's index, is left out. Sizes are
read off the shapes. Two figures stand in no shape: heads have 64 channels, and four layers a quarter of the depth apart
are read, as in every published model. Where transformers' own published conversions take 1e-12 in layer norms we keep
timm's 1e-6, with which they were trained.
"""

import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import SettingsError, ShardError
from storage.files import publish_bytes, publish_folder
from storage.weights import check_safetensors, load_pretrained
from tasks.annotators.midas import UNUSED
from tasks.pickles import Converted, convert_pickle, is_pickle

HEAD_CHANNELS = 64
EPS = 1e-6
PATCH = 16
Shape = tuple[int, ...]

BACKBONE = "pretrained.model."
BLOCK = rf"{re.escape(BACKBONE)}blocks\.(\d+)\."
DROPPED = re.compile(rf"{re.escape(BACKBONE)}(head\.|fc_norm\.)|relative_position_index$")
NECK: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
    (r"scratch\.layer(\d)_rn\.(.*)", lambda m: f"neck.convs.{int(m[1]) - 1}.{m[2]}"),
    (
        r"scratch\.refinenet(\d)\.out_conv\.(.*)",
        lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}.projection.{m[2]}",
    ),
    (
        r"scratch\.refinenet(\d)\.resConfUnit(\d)\.conv(\d)\.(.*)",
        lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}.residual_layer{m[2]}.convolution{m[3]}.{m[4]}",
    ),
    (r"scratch\.output_conv\.(\d)\.(.*)", lambda m: f"head.head.{m[1]}.{m[2]}"),
    (
        r"pretrained\.act_postprocess(\d)\.0\.project\.0\.(.*)",
        lambda m: f"neck.reassemble_stage.readout_projects.{int(m[1]) - 1}.0.{m[2]}",
    ),
    (
        r"pretrained\.act_postprocess(\d)\.([34])\.(.*)",
        lambda m: f"neck.reassemble_stage.layers.{int(m[1]) - 1}.{'projection' if m[2] == '3' else 'resize'}.{m[3]}",
    ),
)
IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "gamma_1": "lambda_1",
    "gamma_2": "lambda_2",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    "attn.relative_position_bias_table": "attention.attention.relative_position_bias.relative_position_bias_table",
}
STEM = {"cls_token": "cls_token", "pos_embed": "position_embeddings"}
RESNET = (
    (r"stem\.conv\.(.*)", r"embedder.convolution.\1"),
    (r"stem\.norm\.(.*)", r"embedder.norm.\1"),
    (r"stages\.(\d)\.blocks\.(\d+)\.(.*)", r"encoder.stages.\1.layers.\2.\3"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Where a tensor comes from: all of a named one, or a third of its rows."""

    name: str
    third: int | None = None


def convert_midas(source: Path, target: Path) -> Converted:
    """Write the MiDaS checkpoint `source`, `.pt` or safetensors, as the folder `target`; returns what it held.

    Raises SettingsError when there is no such file or `target` exists, ShardError when it is not a DPT of MiDaS or its
    tensors do not make one that transformers loads.
    """
    if target.exists() or target.is_symlink():
        raise SettingsError(f"{target} exists; name another place")
    with tempfile.TemporaryDirectory(dir=_existing(target), prefix=".convert-") as apart:
        found, file = None, source
        if not source.is_file() or is_pickle(source):
            file = Path(apart) / "plain.safetensors"
            found = convert_pickle(source, file)
        with publish_folder(target) as folder:
            parameters, tensors = _write(source, file, folder)
            _check(source, folder)
    return found or Converted(tensors=tensors, parameters=parameters, left_out=())


def configuration(source: Path, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Return the configuration that transformers needs, read off the shapes of MiDaS's tensors."""
    depth = len({match[1] for name in shapes if (match := re.match(BLOCK, name))})
    needed = (
        f"{BACKBONE}cls_token",
        f"{BACKBONE}blocks.0.mlp.fc1.weight",
        "pretrained.act_postprocess4.0.project.0.weight",
    )
    if missing := [name for name in (*needed, "scratch.layer1_rn.weight") if name not in shapes]:
        raise ShardError(f"{source} is no DPT of MiDaS 3: expected tensors such as {missing[0]}, found {min(shapes)}")
    hidden, fused = shapes[needed[0]][-1], shapes["scratch.layer1_rn.weight"][0]
    neck = [shapes[f"scratch.layer{index}_rn.weight"][1] for index in (1, 2, 3, 4)]
    shared: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": depth,
        "intermediate_size": shapes[needed[1]][0],
    }
    shared |= {"image_size": _side(shapes), "patch_size": PATCH, "layer_norm_eps": EPS}
    config: dict[str, Any] = {
        "model_type": "dpt",
        "architectures": ["DPTForDepthEstimation"],
        "neck_hidden_sizes": neck,
    }
    config |= {"fusion_hidden_size": fused, "readout_type": "project"}
    layers = [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    heads = hidden // HEAD_CHANNELS
    if _is_beit(shapes):
        table = shapes[f"{BACKBONE}blocks.0.attn.relative_position_bias_table"]
        backbone = {"model_type": "beit", "num_attention_heads": table[1], "use_relative_position_bias": True, **shared}
        stages = [f"stage{index + 1}" for index in layers]
        return config | {"backbone_config": backbone | {"reshape_hidden_states": False, "out_features": stages}}
    config |= shared | {"num_attention_heads": heads, "backbone_out_indices": layers}
    return config | (_hybrid(shapes) if _is_hybrid(shapes) else {})


def names(source: Path, shapes: Mapping[str, Shape]) -> dict[str, Piece]:
    """Return transformers' name of every tensor and where it comes from; raises ShardError for one that is unknown."""
    table: dict[str, Piece] = {}
    for name in shapes:
        if DROPPED.search(name):
            continue
        pieces = dict(_renamed(name, is_beit=_is_beit(shapes), is_hybrid=_is_hybrid(shapes)))
        if not pieces:
            raise ShardError(f"{source} holds {name}, which no DPT of MiDaS 3 has")
        table |= pieces
    return table


def _renamed(name: str, *, is_beit: bool, is_hybrid: bool) -> Iterator[tuple[str, Piece]]:
    blocks, stem = (
        ("backbone.encoder.layer", "backbone.embeddings") if is_beit else ("dpt.encoder.layer", "dpt.embeddings")
    )
    if block := re.match(BLOCK, name):
        yield from _in_block(name, name[block.end() :], f"{blocks}.{block[1]}")
        return
    whole = Piece(name=name)
    bare = name.removeprefix(BACKBONE)
    if name.startswith(f"{BACKBONE}patch_embed.backbone."):
        bare = name.removeprefix(f"{BACKBONE}patch_embed.backbone.")
        for pattern, new in RESNET:
            if match := re.fullmatch(pattern, bare):
                yield f"{stem}.backbone.bit.{match.expand(new)}", whole
    elif name != bare and bare in STEM:
        yield f"{stem}.{STEM[bare]}", whole
    elif name != bare and (match := re.fullmatch(r"patch_embed\.proj\.(.*)", bare)):
        yield f"{stem}.{'' if is_hybrid else 'patch_embeddings.'}projection.{match[1]}", whole
    elif name != bare and (match := re.fullmatch(r"norm\.(.*)", bare)):
        yield f"dpt.layernorm.{match[1]}", whole
    else:
        for pattern, rename in NECK:
            if match := re.fullmatch(pattern, name):
                yield rename(match), whole


def _in_block(name: str, leaf: str, block: str) -> Iterator[tuple[str, Piece]]:
    if match := re.fullmatch(r"attn\.qkv\.(weight|bias)", leaf):
        for third, part in enumerate(("query", "key", "value")):
            yield f"{block}.attention.attention.{part}.{match[1]}", Piece(name=name, third=third)
        return
    stem, _, end = leaf.rpartition(".")
    if leaf in IN_BLOCK:
        yield f"{block}.{IN_BLOCK[leaf]}", Piece(name=name)
    elif stem in IN_BLOCK:
        yield f"{block}.{IN_BLOCK[stem]}.{end}", Piece(name=name)


def _is_beit(shapes: Mapping[str, Shape]) -> bool:
    return f"{BACKBONE}blocks.0.attn.relative_position_bias_table" in shapes


def _is_hybrid(shapes: Mapping[str, Shape]) -> bool:
    return f"{BACKBONE}patch_embed.backbone.stem.conv.weight" in shapes


def _side(shapes: Mapping[str, Shape]) -> int:
    """Return the side of the square image the position embedding was trained for."""
    if _is_beit(shapes):  # (2 n - 1)^2 offsets between patches, and three for the class token
        rows = shapes[f"{BACKBONE}blocks.0.attn.relative_position_bias_table"][0]
        return (math.isqrt(rows - 3) + 1) // 2 * PATCH
    return math.isqrt(shapes[f"{BACKBONE}pos_embed"][1] - 1) * PATCH


def _hybrid(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    inner = f"{BACKBONE}patch_embed.backbone."
    stages = [[name for name in shapes if name.startswith(f"{inner}stages.{stage}.")] for stage in range(3)]
    depths = [len({name.split("blocks.")[1].partition(".")[0] for name in names}) for names in stages]
    widths = [shapes[f"{inner}stages.{stage}.blocks.0.conv3.weight"][0] for stage in range(3)]
    backbone = {
        "model_type": "bit",
        "layer_type": "bottleneck",
        "global_padding": "same",
        "embedding_dynamic_padding": True,
        "embedding_size": shapes[f"{inner}stem.conv.weight"][0],
        "hidden_sizes": [*widths, 2 * widths[-1]],
        "depths": depths,
        "out_features": ["stage1", "stage2", "stage3"],
    }
    patches = _side(shapes) // PATCH
    return {
        "is_hybrid": True,
        "backbone_config": backbone,
        "backbone_featmap_shape": [1, widths[-1], patches, patches],
        "reassemble_factors": [1, 1, 1, 0.5],
        "neck_ignore_stages": [0, 1],
    }


def _write(source: Path, file: Path, folder: Path) -> tuple[int, int]:
    """Write weights and configurations; returns the number of parameters and of tensors."""
    import torch
    from safetensors import safe_open

    from training.weights import tensor_files

    [file] = check_safetensors(file)
    with safe_open(file, framework="pt") as opened:
        shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118  (no dict)
        config, table = configuration(source, shapes), names(source, shapes)

        def read(name: str) -> Any:
            tensor = opened.get_tensor(table[name].name)
            third = table[name].third
            return tensor if third is None else tensor.chunk(3)[third].contiguous()

        kinds = {name: (opened.get_tensor(piece.name).dtype, _shape(piece, shapes)) for name, piece in table.items()}
        tensor_files.write(folder / "model.safetensors", kinds, read, {})
    publish_bytes(folder / "config.json", json.dumps(config, indent=2).encode())
    publish_bytes(folder / "preprocessor_config.json", json.dumps(_processor(_side(shapes)), indent=2).encode())
    return sum(torch.Size(shape).numel() for _, shape in kinds.values()), len(kinds)


def _shape(piece: Piece, shapes: Mapping[str, Shape]) -> Shape:
    shape = shapes[piece.name]
    return shape if piece.third is None else (shape[0] // 3, *shape[1:])


def _processor(side: int) -> dict[str, Any]:
    """Return how MiDaS prepares an image, square as transformers' DPT needs it."""
    size, half = {"height": side, "width": side}, [0.5, 0.5, 0.5]
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": 3,  # bicubic
        "keep_aspect_ratio": False,
        "ensure_multiple_of": 32,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": half,
        "image_std": half,
    }


def _check(source: Path, folder: Path) -> None:
    """Load the folder as a user's build will, so that what does not fit is told now and names the source."""
    from transformers import DPTForDepthEstimation

    try:
        load_pretrained(DPTForDepthEstimation, str(folder), unused=UNUSED)
    except ShardError as error:
        raise ShardError(str(error).replace(str(folder), str(source))) from error


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())
