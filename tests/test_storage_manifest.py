"""The manifest: there when the dataset is done, refused in one sentence when it cannot be trusted."""

import dataclasses
import json
from pathlib import Path

import pytest

from storage.canonical import encode
from storage.errors import ShardError
from storage.manifest import read_manifest, write_manifest
from storage.records import FORMAT_VERSION, Manifest, PublishedFile

SHARD = PublishedFile(name="shards/train-000000.tar", pairs=2, bytes=10240, sha256="0" * 64, counts={"haze": 2})
LEDGER = PublishedFile(name="ledger/pairs-000.parquet", pairs=0, bytes=900, sha256="1" * 64, counts={})
MANIFEST = Manifest(
    format_version=FORMAT_VERSION,
    dataset_version=1,
    settings_digest="2" * 64,
    code_version="3" * 64,
    shards=(SHARD,),
    files=(LEDGER,),
)


def test_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path / "dataset", MANIFEST)
    assert read_manifest(tmp_path / "dataset") == MANIFEST


def test_same_manifest_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_manifest(tmp_path / name, dataclasses.replace(MANIFEST))
    assert len({(tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two")}) == 1


def test_interrupted_manifest_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(tmp_path, MANIFEST)
    monkeypatch.setattr("storage.failpoints._times", {"manifest.before_rename": 0})
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", "manifest.before_rename:raise")
    with pytest.raises(OSError, match=r"manifest\.before_rename"):
        write_manifest(tmp_path, dataclasses.replace(MANIFEST, dataset_version=2))
    assert read_manifest(tmp_path) == MANIFEST


def test_folder_without_manifest_is_no_dataset(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ShardError, match="is no finished dataset"):
            read_manifest(folder)


def test_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    newer = json.loads(encode(MANIFEST)) | {"format_version": FORMAT_VERSION + 1, "shards": "another form"}
    (tmp_path / "manifest.json").write_text(json.dumps(newer))
    with pytest.raises(ShardError, match=f"has format {FORMAT_VERSION + 1}, newer than {FORMAT_VERSION}"):
        read_manifest(tmp_path)


NO_VERSION = (b'{"format_version": "1"}', b'{"format_version": 0}', b"{}", b"[]", b"null")
NO_JSON = (b"", b"{", b"\xff", encode(MANIFEST)[:-1])
NO_MANIFEST = (encode({"format_version": FORMAT_VERSION, "shards": []}),)


@pytest.mark.parametrize("data", [*NO_VERSION, *NO_JSON, *NO_MANIFEST])
def test_damaged_manifest_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(ShardError, match="is not a manifest"):
        read_manifest(tmp_path)
