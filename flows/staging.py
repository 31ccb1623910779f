"""Everything of a version but its number: what stands where, what the manifest says of it, card and metadata."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from flows.card import dataset_card
from flows.croissant import croissant
from flows.publish import blank_manifest, hashed, numbered, packed_files, publish_version
from flows.settings import Settings
from storage.canonical import digest
from storage.commits import code_version
from storage.errors import SettingsError
from storage.files import publish_bytes
from storage.manifest import read_manifest
from storage.records import Manifest, PublishedFile
from storage.shards import shard_list

STAGES = ("crawl", "clean", "annotate", "degrade", "measure", "pack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The files of a version, by the name they are published under, and its manifest."""

    files: Mapping[str, Path]
    manifest: Manifest


def code() -> str:
    """Return the version of the code that decides the bytes of a dataset."""
    return digest([code_version(f"tasks.{stage}") for stage in STAGES])


def stage_version(
    settings: Settings,
    packed: Sequence[str],
    ledger: Sequence[Path],
    licences: Mapping[str, int],
    *,
    layout: Mapping[str, int],
    models: Mapping[str, str],
    photographs: Mapping[str, Path] | None = None,
) -> Version:
    """Return the version that packed shards (their stems) and the parts of a ledger make, numbered.

    licences: licence -> kept photographs. layout: what is fixed for the life of the dataset. models: setting ->
    identity. photographs: of a collection, by the name each is published under.
    """
    root, staging = Path(settings.output), Path(settings.output) / ".work" / "publish"
    files = {f"ledger/{path.name}": path for path in ledger} | dict(photographs or {})
    shards: list[PublishedFile] = []
    beside: list[PublishedFile] = []
    for stem in packed:
        entries = packed_files(stem)
        shards.append(entries["shards"])
        beside.append(entries["annotations"])
        name = Path(entries["shards"].name).stem
        for folder, middle in (("shards", ""), ("annotations", ".annotations")):
            files.update({f"{folder}/{name}.{suffix}": Path(f"{stem}{middle}.{suffix}") for suffix in ("tar", "idx")})
    shards.sort(key=lambda entry: entry.name)
    for name, content in _described(settings, shards, licences).items():
        publish_bytes(staging / name, content)
        files[name] = staging / name
    plain = {name: file for name, file in files.items() if not name.endswith(".tar")}
    manifest = replace(
        blank_manifest(settings_digest=settings.digest(), code_version=code(), layout=layout),
        shards=tuple(shards),
        models=dict(models),
        files=tuple(sorted((*beside, *hashed(plain)), key=lambda entry: entry.name)),
    )
    return Version(files=files, manifest=numbered(root, manifest))


def put_in_place(root: Path, staged: Version, *, expected: int | None = None) -> bool:
    """Publish a staged version; return False, and touch nothing, if it is the current one already.

    expected: the number it must have; SettingsError, before anything is touched, if it has another.
    """
    expect_version(staged.manifest.dataset_version, expected, root)
    if (root / "manifest.json").exists() and read_manifest(root) == staged.manifest:
        return False
    publish_version(root, staged.files, staged.manifest)
    return True


def expect_version(number: int, expected: int | None, root: Path) -> None:
    """Raise SettingsError if a version was expected and `number` is another."""
    if expected not in (None, number):
        raise SettingsError(
            f"version {expected} was asked for, but {root} comes to version {number}; ask for that or none"
        )


def _described(settings: Settings, shards: Sequence[PublishedFile], licences: Mapping[str, int]) -> dict[str, bytes]:
    name = settings.dataset.name
    by_split = groupby(shards, key=lambda entry: Path(entry.name).name.rsplit("-", 1)[0])
    described: dict[str, Any] = {
        **{f"shards/{split}.json": shard_list(name, map(_listed, entries)) for split, entries in by_split},
        "settings.json": settings.published(),
        "croissant.json": croissant(name, shards, licences, settings.pack.codec),
    }
    texts = {file: json.dumps(content, indent=1, sort_keys=True) + "\n" for file, content in described.items()}
    texts["README.md"] = dataset_card(settings, shards, licences)
    return {file: text.encode() for file, text in texts.items()}


def _listed(entry: PublishedFile) -> dict[str, Any]:
    return {"url": Path(entry.name).name, "nsamples": entry.pairs, "filesize": entry.bytes}
