"""Tests import transformers, open_clip and the like, so torchvision must be importable before any of them."""

from importlib.util import find_spec

from threadpoolctl import threadpool_limits

threadpool_limits(1, user_api="blas")  # as on workers: products end in other digits with more threads

if find_spec("torchvision") is not None:
    from storage.torchvision import prepare_torchvision

    prepare_torchvision()

    import torch

    torch.set_num_threads(1)  # two that wait for each other on a busy machine take many times as long
