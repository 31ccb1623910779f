"""A tiny CLIP with random weights, in the layout open_clip publishes."""

import json

import torch
from safetensors.torch import save_file

CONFIG = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25], "interpolation": "bilinear"},
}


def weights(seed=0):
    """The state dict of a random model; weights are larger than fresh ones, or all embeddings would agree."""
    import open_clip

    generator = torch.Generator().manual_seed(seed)
    empty = open_clip.CLIP(**CONFIG["model_cfg"]).state_dict()
    drawn = {name: torch.randn(value.shape, generator=generator) * 0.2 for name, value in empty.items()}
    return drawn | {"logit_scale": torch.tensor(3.0), "ln_final.weight": torch.ones(32)}


def save(folder, state=None, config=CONFIG, name="open_clip_model.safetensors"):
    """Write a checkpoint and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(weights() if state is None else state, folder / name)
    return folder
