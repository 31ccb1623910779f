"""The nearest operation of other libraries to each of our degradations, uint8 RGB to uint8 RGB, where installed.

They are measured, never depended on. The extra `bench` names them; as imagecorruptions brings an OpenCV of its own, it
goes into an environment apart: `pip install -e .[bench,test]` there, and pytest from there. A peer that does not run
with the libraries of today is told with the reason. Strengths are about the middle level; each one's PSNR is told too.
"""

import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable

import numpy as np

from storage.records import Image

Operation = Callable[[Image], Image]

ALBUMENTATIONS: dict[str, tuple[str, str, dict[str, object]]] = {  # of which row, class, arguments
    "GaussianBlur": ("blur Gaussian", "GaussianBlur", {"blur_limit": (0, 0), "sigma_limit": (3.0, 3.0)}),
    "MotionBlur": ("blur linear", "MotionBlur", {"blur_limit": (21, 21)}),
    "Defocus": ("blur defocus", "Defocus", {"radius": (5, 5), "alias_blur": (0.1, 0.1)}),
    "ImageCompression": ("compression", "ImageCompression", {"quality_range": (30, 30)}),
    "RandomSunFlare": ("flare", "RandomSunFlare", {"method": "overlay"}),
    "RandomSunFlare physics": ("flare", "RandomSunFlare", {"method": "physics_based"}),
    "RandomFog": ("haze", "RandomFog", {"fog_coef_range": (0.5, 0.5)}),
    "RandomGamma": ("low_light", "RandomGamma", {"gamma_limit": (200, 200)}),
    "Illumination": ("low_light", "Illumination", {}),
    "ISONoise": ("noise", "ISONoise", {"color_shift": (0.05, 0.05), "intensity": (0.5, 0.5)}),
    "GaussNoise": ("noise", "GaussNoise", {"std_range": (0.1, 0.1)}),
    "ShotNoise": ("noise", "ShotNoise", {"scale_range": (0.1, 0.1)}),
    "RandomRain": ("rain", "RandomRain", {"slant_range": (-10, 10), "blur_value": 3}),
}
IMAGECORRUPTIONS = {
    "motion_blur": "blur linear",
    "defocus_blur": "blur defocus",
    "jpeg_compression": "compression",
    "fog": "haze",
    "brightness": "low_light",
    "gaussian_noise": "noise",
    "shot_noise": "noise",
    "spatter": "rain",
}
KORNIA: dict[str, tuple[str, str, tuple[object, ...]]] = {
    "RandomGaussianBlur": ("blur Gaussian", "RandomGaussianBlur", ((19, 19), (3.0, 3.0))),
    "RandomMotionBlur": ("blur linear", "RandomMotionBlur", (21, 35.0, 0.0)),
    "RandomJPEG": ("compression", "RandomJPEG", ((30.0, 30.0),)),
    "RandomGamma": ("low_light", "RandomGamma", ((2.0, 2.0),)),
    "RandomGaussianNoise": ("noise", "RandomGaussianNoise", (0.0, 0.1)),
    "RandomRain": ("rain", "RandomRain", ()),
}


def peers() -> tuple[dict[str, tuple[str, Operation]], list[str]]:
    """Return label -> (row, operation) of all libraries that are there, and the names of those that are not."""
    found: dict[str, tuple[str, Operation]] = {}
    absent = []
    for library, collect in (
        ("albumentations", _albumentations),
        ("imagecorruptions", _corruptions),
        ("kornia", _kornia),
    ):
        if importlib.util.find_spec(library) is None:
            absent.append(library)
            continue
        version = importlib.metadata.version(library)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = collect(importlib.import_module(library))
        found |= {f"{library} {version} {name}": peer for name, peer in made.items()}
    return found, absent


def _albumentations(library) -> dict[str, tuple[str, Operation]]:
    made = {}
    for name, (row, kind, options) in ALBUMENTATIONS.items():
        transform = getattr(library, kind)(p=1.0, **options)
        made[name] = row, lambda image, transform=transform: transform(image=image)["image"]
    return made


def _corruptions(library) -> dict[str, tuple[str, Operation]]:
    return {
        name: (row, lambda image, name=name: library.corrupt(image, severity=3, corruption_name=name))
        for name, row in IMAGECORRUPTIONS.items()
    }


def _kornia(library) -> dict[str, tuple[str, Operation]]:
    import torch

    torch.set_num_threads(1)
    made = {}
    for name, (row, kind, arguments) in KORNIA.items():
        transform = getattr(importlib.import_module("kornia.augmentation"), kind)(*arguments, p=1.0)
        made[name] = row, lambda image, transform=transform: _through_tensor(torch, transform, image)
    return made


def _through_tensor(torch, transform, image: Image) -> Image:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    out = (transform(tensor)[0].clamp(0, 1) * 255).round().byte()
    return np.ascontiguousarray(out.permute(1, 2, 0).numpy())
