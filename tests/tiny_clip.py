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


def save_siglip_like(folder):
    """Write a checkpoint whose images a model of timm embeds, and whose tokenizer is one of transformers, beside it."""
    import open_clip
    from transformers import CLIPTokenizer

    from tests.tiny_owl import TOKENS

    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"}
    text = {"context_length": 16, "vocab_size": len(TOKENS), "width": 32, "heads": 2, "layers": 2, "proj_bias": True}
    model = {"embed_dim": 64, "init_logit_bias": -10, "vision_cfg": vision, "text_cfg": text | {"pool_type": "last"}}
    torch.manual_seed(0)
    state = {name: value.contiguous() for name, value in open_clip.CustomTextCLIP(**model).state_dict().items()}
    text |= {
        "pool_type": "last",
        "hf_tokenizer_name": "someone/tokenizer",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    config = {"model_cfg": model | {"custom_text": True, "text_cfg": text}, "preprocess_cfg": {"resize_mode": "squash"}}
    save(folder, state, config)
    CLIPTokenizer(vocab={token: n for n, token in enumerate(TOKENS)}, merges=[], model_max_length=16).save_pretrained(
        folder
    )
    return folder


def save(folder, state=None, config=CONFIG, name="open_clip_model.safetensors"):
    """Write a checkpoint and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(weights() if state is None else state, folder / name)
    return folder
