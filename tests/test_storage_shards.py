"""Shards: the same content makes the same bytes, others' readers read them, and nothing else passes as one."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.errors import ShardError
from storage.files import sha256_of
from storage.shards import CODE_SUFFIXES, MAX_MEMBERS, ShardWriter, dali_index, read_member, read_shard, shard_list

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = {
    f"{index:024x}-{index:03d}": {
        "clean.webp": bytes([index]) * (index * 300),
        "degraded.webp": b"" if index == 3 else bytes([255 - index]) * 512,
        "json": json.dumps({"index": index}).encode(),
    }
    for index in range(5)
}
READ_WITH_WEBDATASET = """
import json, sys, warnings
warnings.simplefilter("ignore")
import webdataset
assert webdataset.utils.enforce_security
samples = list(webdataset.WebDataset(sys.argv[1], shardshuffle=False))
print(json.dumps([{k: v.hex() if isinstance(v, bytes) else v for k, v in s.items()} for s in samples]))
"""


def write(path: Path, samples: dict[str, dict[str, bytes]] = SAMPLES) -> ShardWriter:
    with ShardWriter(path) as writer:
        for key, members in samples.items():
            writer.add(key, members)
    return writer


def member(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o444
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def patched(data: bytes, offset: int, patch: bytes) -> bytes:
    """Return the tar with other bytes in its first header, the checksum set right again."""
    header = bytearray(data[:512])
    header[offset : offset + len(patch)] = patch
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


LONG = "a" * 120 + ".json"
PLAIN = tar(member("a.json"))
HOSTILE = {
    "parent folder": tar(member("../evil.json")),
    "deep parent folder": tar(member("a/../../evil.json")),
    "absolute path": tar(member("/tmp/evil.json")),
    "sub folder": tar(member("sub/a.json")),
    "here": tar(member("./a.json")),
    "drive": tar(member("c:\\evil.json")),
    "backslash": tar(member("..\\evil.json")),
    "symlink": tar(member("a.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": tar(member("a.json"), member("a.txt", b"", type=tarfile.LNKTYPE, linkname="a.json")),
    "character device": tar(member("a.json", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "block device": tar(member("a.json", b"", type=tarfile.BLKTYPE)),
    "fifo": tar(member("a.json", b"", type=tarfile.FIFOTYPE)),
    "folder": tar(member("a.json", b"", type=tarfile.DIRTYPE)),
    "contiguous file": tar(member("a.json", type=tarfile.CONTTYPE)),
    "old regular file": tar(member("a.json", type=tarfile.AREGTYPE)),
    "sparse file": patched(PLAIN, 156, b"S"),
    "unknown type": patched(PLAIN, 156, b"Z"),
    "multi-volume": patched(PLAIN, 156, b"M"),
    "volume label": patched(PLAIN, 156, b"V"),
    "pax header": tar(member("a.json", pax_headers={"comment": "x"}), form=tarfile.PAX_FORMAT),
    "pax size lie": tar(member("a.json", pax_headers={"size": "9999"}), form=tarfile.PAX_FORMAT),
    "pax path": tar(member("a.json", pax_headers={"path": "../evil"}), form=tarfile.PAX_FORMAT),
    "gnu long name": tar(member(LONG), form=tarfile.GNU_FORMAT),
    "gnu magic": tar(member("a.json"), form=tarfile.GNU_FORMAT),
    "ustar prefix": patched(PLAIN, 345, b"../.."),
    "link name": patched(PLAIN, 157, b"/etc/passwd"),
    "no magic": patched(PLAIN, 257, bytes(8)),
    "wrong checksum": PLAIN[:148] + b"000000\0 " + PLAIN[156:],
    "setuid": tar(member("a.json", mode=0o4755)),
    "writable": tar(member("a.json", mode=0o644)),
    "owner": tar(member("a.json", uid=1000)),
    "owner name": tar(member("a.json", uname="root")),
    "time": tar(member("a.json", mtime=1)),
    "binary size": patched(PLAIN, 124, b"\x80" + bytes(10) + b"\x01"),
    "negative size": patched(PLAIN, 124, b"-0000000001\0"),
    "size without end": patched(PLAIN, 124, b"000000000011"),
    "size with spaces": patched(PLAIN, 124, b"         1 \0"),
    "huge size": patched(PLAIN, 124, b"77777777777\0"),
    "size beyond the file": patched(PLAIN, 124, b"00000077777\0"),
    "bytes after the name": patched(PLAIN, 0, b"a.json\0evil"),
    "empty name": patched(PLAIN, 0, bytes(6)),
    "line feed": tar(member("a\n.json")),
    "non-ascii": tar(member("\u00e4.json")),
    "right to left": tar(member("a\u202e.json")),
    "upper case": tar(member("A.json")),
    "hidden": tar(member(".json")),
    "no suffix": tar(member("a")),
    "empty suffix": tar(member("a.")),
    "double dot": tar(member("a..json")),
    "option": tar(member("-rf.json")),
    "webdataset's own": tar(member("__..__meta.json")),
    "blank": tar(member("a b.json")),
    "repeated": tar(member("a.json"), member("a.json")),
    "out of order": tar(member("a.txt"), member("a.json")),
    "key comes back": tar(member("a.json"), member("b.json"), member("a.txt")),
    "too many members": tar(*(member(f"a.s{index:03d}") for index in range(MAX_MEMBERS + 1))),
    "dirty padding": PLAIN[:600] + b"!" + PLAIN[601:],
    "trailing byte": PLAIN + b"!",
    "trailing zeros": PLAIN + bytes(10240),
    "garbage after the end": PLAIN[:-100] + b"evil" + PLAIN[-96:],
    "second archive": PLAIN + PLAIN,
    "member after the end": PLAIN[:1024] + bytes(512) + PLAIN[:1024] + bytes(10240 - 2560),
    "no end": PLAIN[:1024],
    "half an end": PLAIN[:1536],
    "short end": PLAIN[:2048],
    "empty file": b"",
    "text": b"not a tar at all",
    "gzip": b"\x1f\x8b\x08" + bytes(600),
    **{f"code: {suffix}": tar(member(f"a.{suffix}")) for suffix in sorted(CODE_SUFFIXES)},
}


def test_samples_come_back_in_order(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar")
    assert list(read_shard(tmp_path / "shard.tar")) == list(SAMPLES.items())


def test_empty_shard_holds_nothing(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", {})
    assert list(read_shard(tmp_path / "shard.tar")) == []


def test_same_samples_make_the_same_bytes(tmp_path: Path) -> None:
    turned = {key: dict(reversed(members.items())) for key, members in SAMPLES.items()}
    assert write(tmp_path / "one.tar").sha256 == write(tmp_path / "two.tar", turned).sha256
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_writer_knows_hash_and_size_of_its_file(tmp_path: Path) -> None:
    writer = write(tmp_path / "shard.tar")
    assert writer.sha256 == sha256_of(tmp_path / "shard.tar")
    assert writer.bytes == (tmp_path / "shard.tar").stat().st_size


def test_shard_is_what_tarfile_writes(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar")
    names = ((f"{key}.{suffix}", data) for key, members in SAMPLES.items() for suffix, data in members.items())
    assert (tmp_path / "shard.tar").read_bytes() == tar(*(member(name, data) for name, data in names))


def test_members_are_where_the_writer_says(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shard.tar") as writer:
        places = {key: writer.add(key, members) for key, members in SAMPLES.items()}
    for key, members in SAMPLES.items():
        read = {suffix: read_member(tmp_path / "shard.tar", *place) for suffix, place in places[key].items()}
        assert read == members


def test_member_beyond_the_file_is_refused(tmp_path: Path) -> None:
    size = write(tmp_path / "shard.tar").bytes
    with pytest.raises(ShardError, match="cut short"):
        read_member(tmp_path / "shard.tar", size - 10, 11)


def test_exception_publishes_no_shard(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path / "shard.tar") as writer:
        writer.add("a", {"json": b"{}" * (1 // 0)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["before_fsync", "before_rename"])
def test_failure_while_ending_publishes_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr("storage.failpoints._times", Counter())
    monkeypatch.setenv("PAIRFORGE_FAILPOINT", f"data.{place}:enospc")
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "shard.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "a.b", "../a", "A", "-a", "_a", "a/b", "a\n", "\u00e4"])
def test_illegal_key_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="a key starts with"):
        write(tmp_path / "shard.tar", {key: {"json": b""}})


def test_name_too_long_for_its_field_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", {"a" * 95: {"json": b""}})
    with pytest.raises(ValueError, match="up to 100 characters"):
        write(tmp_path / "shard.tar", {"a" * 96: {"json": b""}})


@pytest.mark.parametrize("suffix", ["", ".json", "json.", "a..b", "JSON", "../x", "pkl", "image.pth"])
def test_illegal_suffix_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=r"is not <key>|may hold code"):
        write(tmp_path / "shard.tar", {"a": {suffix: b""}})


def test_repeated_key_is_refused(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shard.tar") as writer:
        writer.add("a", {"json": b"{}"})
        with pytest.raises(ValueError, match="key a is in the shard already"):
            writer.add("a", {"json": b"{}"})


@pytest.mark.parametrize("count", [0, MAX_MEMBERS + 1])
def test_sample_without_or_with_too_many_members_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="a key has 1 to"):
        write(tmp_path / "shard.tar", {"a": {f"s{index}": b"" for index in range(count)}})


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tar_is_refused_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "evil.tar").write_bytes(HOSTILE[name])
    with pytest.raises(ShardError, match=r"evil\.tar"):
        list(read_shard(tmp_path / "evil.tar"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["evil.tar", "here"]


def test_plain_tar_of_the_hostile_table_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "plain.tar").write_bytes(PLAIN)
    assert list(read_shard(tmp_path / "plain.tar")) == [("a", {"json": b"x"})]


def test_truncated_shard_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar")
    data = (tmp_path / "shard.tar").read_bytes()
    for length in sorted({*range(0, len(data), 97), *range(0, len(data), 512), len(data) - 1}):
        (tmp_path / "cut.tar").write_bytes(data[:length])
        with pytest.raises(ShardError, match=r"cut\.tar"):
            list(read_shard(tmp_path / "cut.tar"))


def test_every_flipped_bit_changes_the_hash(tmp_path: Path) -> None:
    writer = write(tmp_path / "shard.tar")
    data = bytearray((tmp_path / "shard.tar").read_bytes())
    rng = np.random.default_rng(7)
    for bit in rng.choice(len(data) * 8, size=300, replace=False).tolist():
        data[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped.tar").write_bytes(data)
        assert sha256_of(tmp_path / "flipped.tar") != writer.sha256
        data[bit // 8] ^= 1 << bit % 8
    assert data == (tmp_path / "shard.tar").read_bytes()


def test_flipped_bit_in_a_header_or_padding_is_refused_by_the_reader(tmp_path: Path) -> None:
    write(tmp_path / "shard.tar", {"a": {"json": b"x"}})
    data = bytearray((tmp_path / "shard.tar").read_bytes())
    passed = []
    for position in (*range(1600), *range(1600, len(data), 500)):
        data[position] ^= 0x80
        (tmp_path / "flipped.tar").write_bytes(data)
        passed += _positions_if(position, lambda: list(read_shard(tmp_path / "flipped.tar")))
        data[position] ^= 0x80
    assert passed == [512]  # the one byte of data, which only the sha256 covers


def _positions_if(position: int, action: Callable[[], object]) -> list[int]:
    try:
        action()
    except ShardError:
        return []
    return [position]


def test_webdataset_reads_the_shard_in_secure_mode(tmp_path: Path) -> None:
    pytest.importorskip("webdataset", reason="webdataset is not installed")
    write(tmp_path / "shard.tar")
    command = [sys.executable, "-c", READ_WITH_WEBDATASET, str(tmp_path / "shard.tar")]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "WDS_SECURE": "1"})
    read = {sample["__key__"]: sample for sample in json.loads(done.stdout)}
    assert list(read) == list(SAMPLES)
    for key, members in SAMPLES.items():
        assert {suffix: bytes.fromhex(read[key][suffix]) for suffix in members} == members


def test_dali_index_points_at_the_data(tmp_path: Path) -> None:
    writer = write(tmp_path / "shard.tar")
    head, *lines = dali_index(writer).decode().splitlines()
    assert head == f"v1.2 {len(SAMPLES)}"
    for line, (key, members) in zip(lines, SAMPLES.items(), strict=True):
        fields = line.split()
        places = [fields[start : start + 4] for start in range(0, len(fields), 4)]
        assert [name for *_, name in places] == [f"{key}.{suffix}" for suffix in members]
        read = {suffix: read_member(writer.path, int(offset), int(size)) for suffix, offset, size, _ in places}
        assert read == members


def test_shard_list_has_wids_form() -> None:
    entries = [{"url": "train-000000.tar", "nsamples": 5, "filesize": 10240}]
    listed = shard_list("pairs", entries)
    assert (listed["__kind__"], listed["wids_version"]) == ("wids-shard-index-v1", 1)
    assert (listed["name"], listed["shardlist"]) == ("pairs", entries)


def test_shard_list_without_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="needs url and nsamples"):
        shard_list("pairs", [{"url": "train-000000.tar"}])
