"""Low-rank adaptation (LoRA, arXiv:2106.09685) of a restorer with peft: a few million weights instead of all."""

from typing import Any

from torch import nn

from storage.errors import SettingsError
from storage.torchvision import prepare_torchvision
from training.network.model import RestorationTransformer

# The layers that Step1X-Edit's own LoRA adapts: attention and MLP of both kinds of block.
ADAPTED = r".*(double_blocks\.\d+\.(img|txt)_(attn\.(qkv|proj)|mlp\.[02])|single_blocks\.\d+\.linear[12])"


def adapt(model: RestorationTransformer, *, rank: int, alpha: float, seed: int) -> None:
    """Freeze `model` and insert adapters, in place; only they are trained from then on.

    Raises SettingsError when peft is not installed.
    """
    prepare_torchvision()  # peft imports transformers
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise SettingsError('model.train = "lora" needs peft: install PairForge\'s `train` extra') from error
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)  # peft draws from torch's own generator
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=ADAPTED, lora_dropout=0.0, bias="none")
        inject_adapter_in_model(config, model)
    for name, weight in model.named_parameters():
        weight.requires_grad_("lora_" in name)


def merged(model: RestorationTransformer) -> dict[str, Any]:
    """Return the state of an adapted model with its adapters added in: the tensors of a plain one."""
    prepare_torchvision()
    from peft.tuners.lora import LoraLayer

    state = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            base: Any = module.get_base_layer()
            state[f"{name}.weight"] = base.weight.detach() + module.get_delta_weight("default").to(base.weight.dtype)
            if base.bias is not None:
                state[f"{name}.bias"] = base.bias.detach()
        elif not any(isinstance(parent, LoraLayer) for parent in _parents(model, name)):
            own = {**dict(module.named_parameters(recurse=False))}
            state |= {f"{name}.{leaf}" if name else leaf: weight.detach() for leaf, weight in own.items()}
    return state


def _parents(model: nn.Module, name: str) -> list[nn.Module]:
    parts = name.split(".")
    return [model.get_submodule(".".join(parts[:count])) for count in range(1, len(parts))]
