"""Put a finished version in place: the old one is kept beside it, the manifest is written last.

`<output>` always holds one version; others stand whole in `<output>/versions/<n>`, sharing unchanged shards by hard
link. A version that was published before is published again under its old number, so going back gives the same bytes.
From the moment the manifest is taken away until the new one is written there is no manifest: no reader sees half a
version, and a run that is killed in between is finished by the next.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from storage.canonical import decode
from storage.files import publish_bytes, sha256_of
from storage.manifest import read_manifest, write_manifest
from storage.records import FORMAT_VERSION, Manifest, PublishedFile

REPORT = "report.html"


def hashed(files: Mapping[str, Path]) -> tuple[PublishedFile, ...]:
    """Return the entries of finished files that hold no pairs, by the name they are published under."""
    return tuple(
        PublishedFile(name=name, pairs=0, bytes=file.stat().st_size, sha256=sha256_of(file), counts={})
        for name, file in files.items()
    )


def numbered(root: Path, manifest: Manifest) -> Manifest:
    """Return `manifest` with its version: that of the same content published before, else the next."""
    known = _versions(root)
    for version in known:
        if replace(manifest, dataset_version=version.dataset_version) == version:
            return version
    highest = max((version.dataset_version for version in known), default=0)
    return replace(manifest, dataset_version=highest + 1)


def publish_version(root: Path, staged: Mapping[str, Path], manifest: Manifest) -> None:
    """Make `staged` (name below `root` -> finished file) the dataset's current version, with its manifest last."""
    if (root / "manifest.json").exists():
        _keep_old_version(root)
        (root / "manifest.json").unlink()
    for name, file in staged.items():
        _link(file, root / name)
    _remove_what_is_not_in(root, set(staged))
    write_manifest(root, manifest)


def blank_manifest(*, settings_digest: str, code_version: str, layout: Mapping[str, int]) -> Manifest:
    """Return a manifest without files and without a version."""
    return Manifest(
        format_version=FORMAT_VERSION,
        dataset_version=0,
        settings_digest=settings_digest,
        code_version=code_version,
        shards=(),
        files=(),
        layout=dict(layout),
    )


def packed_files(stem: str) -> dict[str, PublishedFile]:
    """Return what the pack stage wrote under `stem`: the entries of its shard and of the annotations beside it."""
    return decode(dict[str, PublishedFile], Path(f"{stem}.files.json").read_bytes())


def _versions(root: Path) -> list[Manifest]:
    folders = [root, *sorted((root / "versions").glob("[0-9]*"))]
    return [read_manifest(folder) for folder in folders if (folder / "manifest.json").exists()]


def _keep_old_version(root: Path) -> None:
    version = json.loads((root / "manifest.json").read_bytes())["dataset_version"]
    kept = root / "versions" / str(version)
    if (kept / "manifest.json").exists():
        return
    aside = root / "versions" / f".{version}.part"
    shutil.rmtree(aside, ignore_errors=True)
    names = [*_published_names(root), "manifest.json", *([REPORT] if (root / REPORT).exists() else [])]
    for name in names:
        _link(root / name, aside / name)
    aside.replace(kept)


def _published_names(root: Path) -> list[str]:
    manifest = read_manifest(root)
    return [entry.name for entry in (*manifest.shards, *manifest.files)]


def _link(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, in one step; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    aside = target.with_name(f".{target.name}.link.part")
    aside.unlink(missing_ok=True)
    try:
        os.link(source, aside)
    except OSError:
        publish_bytes(target, source.read_bytes())
        return
    aside.replace(target)


def _remove_what_is_not_in(root: Path, names: set[str]) -> None:
    for folder in ("shards", "annotations", "ledger", "photographs"):
        for file in sorted((root / folder).rglob("*")):
            if file.is_file() and file.relative_to(root).as_posix() not in names:
                file.unlink()
