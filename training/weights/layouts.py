"""Where each tensor of the restorer lies in the published checkpoint formats.

native     Step1X-Edit's own names, which are those of `training.network.model`
bundle     RealRestorer's folder: the native names behind "inner_model."
diffusers  Step1X-Edit for diffusers: fused layers are split, and the last modulation is (scale, shift)

A tensor of a format is put together from rows of one native tensor; everything else here follows from `pieces`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from training.network.params import Params

Layout = Literal["native", "bundle", "diffusers"]
LAYOUTS: tuple[Layout, ...] = ("native", "bundle", "diffusers")
BUNDLE_PREFIX = "inner_model."
WRAPPERS = ("module.", "model.")  # what training wrappers leave before names, in the order in which they nest

Shape = tuple[int, ...]

_TOP = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_embed.in_layer",
    "time_in.out_layer": "time_embed.out_layer",
    "vector_in.in_layer": "vec_embed.in_layer",
    "vector_in.out_layer": "vec_embed.out_layer",
    "final_layer.linear": "proj_out",
}
_LAST_MODULATION = ("final_layer.adaLN_modulation.1", "norm_out.linear")
_DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
    "linear2": ("proj_out",),
}
_BLOCKS = {"double_blocks": ("transformer_blocks", _DOUBLE), "single_blocks": ("single_transformer_blocks", _SINGLE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows `rows` of a native tensor are rows `at` of the format's tensor `name`."""

    name: str
    rows: slice
    at: slice


def pieces(layout: Layout, native: str, shape: Shape, params: Params) -> list[Piece]:
    """Return where the native tensor lies, in the order of its rows."""
    whole = slice(0, shape[0])
    if layout == "native":
        return [Piece(name=native, rows=whole, at=whole)]
    if layout == "bundle":
        return [Piece(name=BUNDLE_PREFIX + native, rows=whole, at=whole)]
    module, _, leaf = native.rpartition(".")
    leaf = "weight" if leaf == "scale" else leaf
    if module == _LAST_MODULATION[0]:
        return _swapped(f"{_LAST_MODULATION[1]}.{leaf}", shape[0] // 2)
    return _in_turn([f"{name}.{leaf}" for name in _diffusers_modules(module)], shape[0], params.hidden)


def _diffusers_modules(module: str) -> list[str]:
    stack, _, rest = module.partition(".")
    if stack not in _BLOCKS:
        return [_TOP.get(module, module)]
    theirs, modules = _BLOCKS[stack]
    number, _, inner = rest.partition(".")
    return [f"{theirs}.{number}.{name}" for name in modules[inner]]


def _in_turn(names: list[str], rows: int, hidden: int) -> list[Piece]:
    """Queries, keys and values take `hidden` rows each; the last name takes what is left."""
    starts = [number * hidden for number in range(len(names))]
    ends = [*starts[1:], rows]
    return [
        Piece(name=name, rows=slice(start, end), at=slice(0, end - start))
        for name, start, end in zip(names, starts, ends, strict=True)
    ]


def _swapped(name: str, half: int) -> list[Piece]:
    first, second = slice(0, half), slice(half, 2 * half)
    return [Piece(name=name, rows=first, at=second), Piece(name=name, rows=second, at=first)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a format: its shape, and the native rows, in order, that make it."""

    shape: Shape
    native: str
    rows: tuple[slice, ...]


def entries(layout: Layout, shapes: Mapping[str, Shape], params: Params) -> dict[str, Entry]:
    """Return every tensor that a file of this format holds for native tensors of these shapes."""
    found: dict[str, Entry] = {}
    for native, shape in shapes.items():
        by_name: dict[str, list[Piece]] = {}
        for piece in pieces(layout, native, shape, params):
            by_name.setdefault(piece.name, []).append(piece)
        for name, own in by_name.items():
            own.sort(key=lambda piece: piece.at.start)
            rows = sum(piece.rows.stop - piece.rows.start for piece in own)
            found[name] = Entry(shape=(rows, *shape[1:]), native=native, rows=tuple(piece.rows for piece in own))
    return found


def obstacle(layout: Layout, params: Params) -> str:
    """Return why a format cannot hold a model of this shape, or an empty string."""
    if layout == "native":
        return ""
    if not params.is_published_form:
        return f"{layout} holds only the published form of the transformer; write native"
    extras = {
        "a guidance embedding": params.guidance,
        "a mask token": params.mask_token,
        "a scale factor of v1.0": params.connector is not None and params.connector.scaled,
    }
    if layout == "diffusers" and any(extras.values()):
        present = " and ".join(name for name, is_there in extras.items() if is_there)
        return f"Step1X-Edit for diffusers has no place for {present}; write native or bundle"
    return ""


def config(layout: Layout, params: Params) -> bytes:
    """Return the config.json with which the format's own class builds the model."""
    assert params.connector is not None
    common = {"in_channels": params.channels, "axes_dims_rope": list(params.rope_axes)}
    if layout == "bundle":
        own = {
            "_class_name": "RealRestorerTransformer2DModel",
            "out_channels": params.channels,
            "vec_in_dim": params.pooled,
            "context_in_dim": params.context,
            "hidden_size": params.hidden,
            "mlp_ratio": float(params.mlp_ratio),
            "num_heads": params.heads,
            "depth": params.double_blocks,
            "depth_single_blocks": params.single_blocks,
            "theta": params.rope_theta,
            "qkv_bias": True,
            "mode": "torch",
            "version": "v1.0" if params.connector.scaled else "v1.1",
            "guidance_embeds": params.guidance,
            "use_mask_token": params.mask_token,
        }
    else:
        own = {
            "_class_name": "Step1XEditTransformer2DModel",
            "patch_size": 1,
            "num_layers": params.double_blocks,
            "num_single_layers": params.single_blocks,
            "attention_head_dim": params.hidden // params.heads,
            "num_attention_heads": params.heads,
            "joint_attention_dim": params.context,
            "vector_in_dim": params.pooled,
            "connector_in_channels": params.connector.width,
            "connector_hidden_size": params.connector.hidden,
            "connector_heads_num": params.connector.heads,
            "connector_depth": params.connector.blocks,
            "guidance_embeds": params.guidance,
        }
    return json.dumps(common | own, indent=2, sort_keys=True).encode()
