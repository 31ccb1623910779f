"""Restore the inputs of a benchmark into a folder; what stands there already is not restored again."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from storage.errors import SourceError
from storage.files import publish_bytes
from storage.records import Image
from storage.samples import encode_image
from tasks.crawl import path_of
from tasks.decode import decode
from tasks.gallery import Gallery
from tasks.prompts import GENERAL, instruction

Prompts = Literal["fixed", "per_task"]
Restore = Callable[[Image, str], Image]  # (picture, prompt) -> the restored one


def restore_all(
    inputs: Gallery,
    folder: Path,
    restore: Restore,
    *,
    prompts: Prompts,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> None:
    """Write `<folder>/<name>.png` of every input that has none; an input that does not decode is left to the scores.

    prompts: one fixed enhancement instruction, as in the paper's protocol, or the prompt of each picture's task.
    """
    for done, name in enumerate(sorted(inputs.tasks), start=1):
        file = path_of(folder, f"{name}.png")
        if not file.exists():
            try:
                image = decode(inputs.read(name)).image
            except SourceError:
                continue
            prompt = GENERAL if prompts == "fixed" else instruction(inputs.tasks[name])
            publish_bytes(file, encode_image(restore(image, prompt), "png"))
        progress(done, len(inputs.tasks))
