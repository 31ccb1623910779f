"""LPIPS: how far apart two images look to a network (Zhang et al., CVPR 2018, arXiv 1801.03924), version 0.1, AlexNet.

The `lpips` package computes it. Its five layers of weights fitted to people's judgements ship inside it and are read by
torch's restricted loader; the AlexNet below them is the user's: torchvision's ImageNet weights as safetensors, whose
names are `features.<n>.weight`. Those of its classifier are not needed.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from storage.errors import ShardError
from storage.records import Image
from storage.torchvision import prepare_torchvision

Distance = Callable[[Image, Image], float]

_SLICES = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}  # layer of AlexNet -> slice of the package's network
_LEAST_SIDE = 32  # below it, AlexNet's last layers see nothing


def open_lpips(file: Path, device: str = "cpu") -> Distance:
    """Return the distance of two uint8 images (H, W, 3): 0 for equal ones, about 0.7 for unrelated ones.

    file: torchvision's AlexNet as safetensors. The distance takes its images at full size and raises ValueError for
    images of different or too small sizes. Raises ShardError in one sentence when the file is not such a checkpoint.
    """
    prepare_torchvision()
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision by its older names
        model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    model.net.load_state_dict(_backbone(file, model.net.state_dict()))
    model.requires_grad_(False).to(device)

    def distance(one: Image, other: Image) -> float:
        if one.shape != other.shape or min(one.shape[:2]) < _LEAST_SIDE:
            raise ValueError(f"LPIPS takes two images of one size above {_LEAST_SIDE}: {one.shape}, {other.shape}")
        return float(model(_tensor(one, device), _tensor(other, device)))

    return distance


def _tensor(image: Image, device: str) -> Any:  # a torch tensor; torch is imported late
    import torch

    planes = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
    return torch.from_numpy(planes).to(device).float() / 127.5 - 1


def _backbone(file: Path, expected: dict[str, Any]) -> dict[str, Any]:
    found = _read(file)
    names = {
        f"slice{part}.{layer}.{kind}": f"features.{layer}.{kind}"
        for layer, part in _SLICES.items()
        for kind in ("weight", "bias")
    }
    assert set(names) == set(expected), "the lpips package names its network otherwise"
    for ours, theirs in names.items():
        shape = tuple(expected[ours].shape)
        if theirs not in found:
            known = ", ".join(sorted(found)[:3]) or "nothing"
            raise ShardError(f"{file} is not torchvision's AlexNet: it lacks {theirs}, it holds {known} ...")
        if tuple(found[theirs].shape) != shape:
            raise ShardError(f"{file}: {theirs} has shape {tuple(found[theirs].shape)}, AlexNet's is {shape}")
    return {ours: found[theirs] for ours, theirs in names.items()}


def _read(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except (SafetensorError, OSError) as error:
        raise ShardError(f"{file} is not readable as safetensors: {error}") from error
