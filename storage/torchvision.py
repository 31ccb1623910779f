"""torchvision beside a torch of another build: what is needed is its Python half, which should not fail for the other.

A torch without CUDA beside the torchvision of the package index, which has it, ends every import of torchvision with
"operator torchvision::nms does not exist", and open_clip, timm, sam2 and lpips with it. Of its compiled operators only
non-maximum suppression is used here; where they cannot be loaded, a plain one stands in for it. transformers imports
torchvision where it finds it, so this is called before either is imported; it stands here because annotators, filters
and the trainer all need it and share no other floor.
"""

from functools import cache
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def prepare_torchvision() -> bool:
    """Make `import torchvision` work where it is installed; call it before importing what needs it.

    Return whether its operators are the real ones.
    """
    try:
        import torchvision  # noqa: F401  (registers its operators)
    except ModuleNotFoundError:
        return False
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return True
    _define_operators()
    from torchvision import extension

    extension._has_ops = lambda: True  # asked by every call of torchvision.ops, and only there
    return False


def _define_operators() -> None:
    import sys

    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # torch has no types here
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")
    library.impl("nms", _suppress, "CompositeExplicitAutograd")
    _KEPT.append(library)


_KEPT: list[object] = []  # an operator lives as long as its library


def _suppress(dets, scores, iou_threshold):  # type: ignore[no-untyped-def]  # tensors; torch is imported late
    """Return the indices of the boxes (x0, y0, x1, y1) that no better one overlaps by more than the threshold."""
    import torch

    order = scores.argsort(descending=True, stable=True)
    areas = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    keep = []
    while order.numel():
        best, order = order[0], order[1:]
        keep.append(best)
        low, high = torch.maximum(dets[best, :2], dets[order, :2]), torch.minimum(dets[best, 2:], dets[order, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        order = order[shared <= iou_threshold * (areas[best] + areas[order] - shared)]
    return torch.stack(keep) if keep else order
