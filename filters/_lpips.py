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

from storage.errors import SettingsError
from storage.records import Image
from storage.torchvision import prepare_torchvision
from storage.weights import check_safetensors, raise_unless_whole

Distance = Callable[[Image, Image], float]

LEAST_SIDE = 32  # below it, AlexNet's last layers see nothing
_SLICES = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}  # layer of AlexNet -> slice of the package's network


def open_lpips(file: Path, device: str = "cpu") -> Distance:
    """Return the distance of two uint8 images (H, W, 3): 0 for equal ones, about 0.7 for unrelated ones.

    file: torchvision's AlexNet as safetensors, or a folder with nothing else of the kind. The distance takes its images
    at full size and raises ValueError for images of different or too small sizes. Raises SettingsError or ShardError in
    one sentence when there is no such checkpoint.
    """
    prepare_torchvision()
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips calls torchvision by its older names
        model = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    model.net.load_state_dict(_backbone(file, model.net.state_dict()))
    model.requires_grad_(False).to(device)

    def distance(one: Image, other: Image) -> float:
        if one.shape != other.shape or min(one.shape[:2]) < LEAST_SIDE:
            raise ValueError(f"LPIPS takes two images of one size above {LEAST_SIDE}: {one.shape}, {other.shape}")
        return float(model(_tensor(one, device), _tensor(other, device)))

    return distance


def _tensor(image: Image, device: str) -> Any:  # a torch tensor; torch is imported late
    import torch

    planes = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
    return torch.from_numpy(planes).to(device).float() / 127.5 - 1


def _backbone(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = check_safetensors(path)
    if len(files) > 1:
        raise SettingsError(f"{path} holds {len(files)} files of safetensors; name AlexNet's")
    found = load_file(files[0])
    layers = {f"slice{part}.{layer}": f"features.{layer}" for layer, part in _SLICES.items()}
    names = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in ("weight", "bias")}
    assert set(names) == set(expected), "the lpips package names its network otherwise"
    missing = [theirs for theirs in names.values() if theirs not in found]
    other = [n for ours, n in names.items() if n in found and found[n].shape != expected[ours].shape]
    raise_unless_whole(files[0], "torchvision's AlexNet", missing, (), other)
    return {ours: found[theirs] for ours, theirs in names.items()}
