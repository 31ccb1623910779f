import hashlib
import json
import os

import pytest

from storage.errors import ShardError
from storage.ledger import read_table
from storage.records import WorkShard
from tasks.crawl import Listing, Options, bucket_of, list_folder, path_of, rights_digest, run, uri_of

HOSTILE = [
    b"new\nline.jpg",
    b"latin-\xe9.jpg",
    b"100%.jpg",
    b"tab\t\x1b[31mred.jpg",
    "caf\u00e9 \U0001f4f7.jpg".encode(),
    "line\u2028separator.jpg".encode(),
    b"<script>alert(1)</script>.jpg",
    b"n" * 255,
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photographs").mkdir()
    return tmp_path / "photographs"


def fill(folder, names):
    for name in names:
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content of " + os.fsencode(name))


def crawl(folder, tmp_path, options=None, quarantine=()):
    listing = list(list_folder(folder))
    part = tmp_path / "part.json"
    part.write_text(json.dumps([(item.uri, item.size, item.mtime_ns, item.inode) for item in listing]))
    inputs = (str(folder), str(part))
    shard = WorkShard(stage="crawl", bucket="p000000", inputs=inputs, output=str(tmp_path / "out/p000000"), seed=0)
    if quarantine:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/p000000.quarantine.json").write_text(json.dumps(list(quarantine)))
    report = run(shard, options or Options())
    return report, {row["uri"]: row for row in read_table(tmp_path / "out/p000000.parquet")}


def test_listing_is_sorted_by_path_and_complete(folder):
    names = ["b.jpg", "a/z.jpg", "a.jpg", "a/b/c.txt", ".hidden", "a-b/x.png", "Thumbs.db"]
    fill(folder, names)
    assert [item.uri for item in list_folder(folder)] == sorted(names)


def test_listing_tells_size_time_and_inode(folder):
    fill(folder, ["a.jpg"])
    found = (folder / "a.jpg").stat()
    expected = Listing(uri="a.jpg", size=found.st_size, mtime_ns=found.st_mtime_ns, inode=found.st_ino)
    assert list(list_folder(folder)) == [expected]


def test_linked_folders_are_listed_but_not_entered(folder, tmp_path):
    fill(folder, ["a/x.jpg"])
    (folder / "a/loop").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path)
    assert [item.uri for item in list_folder(folder)] == ["a/loop", "a/x.jpg", "elsewhere"]


@pytest.fixture
def deep(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=descriptor)
        deeper = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(os.open("x.jpg", os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)
    yield folder
    while (folder / "d/d").is_dir():  # too deep for the recursion by which pytest cleans up
        (folder / "d/d").rename(folder / "e")
        (folder / "d").rmdir()
        (folder / "e").rename(folder / "d")


def test_folders_nested_deeper_than_pythons_stack_are_listed(deep):
    assert [item.uri for item in list_folder(deep)] == ["d/" * 1200 + "x.jpg"]


def test_a_folder_that_is_not_there_is_an_error(folder):
    with pytest.raises(FileNotFoundError):
        list(list_folder(folder / "nowhere"))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_come_back_from_their_uri(name, folder, tmp_path):
    fill(folder, [name])
    report, rows = crawl(folder, tmp_path)
    (uri,) = rows
    assert report.kept == 1
    assert uri.isprintable()
    assert os.fsencode(path_of(folder, uri)) == os.fsencode(folder) + b"/" + name


def test_different_names_have_different_uris():
    names = ["%41", "A", "%2541", "\udcff", "%FF", "a\nb", "a%0Ab"]
    assert len({uri_of(name) for name in names}) == len(names)


@pytest.mark.parametrize("uri", ["../x", "a/../../x", "/etc/passwd", "%2e%2e/x", "a/%2E%2E/x"])
def test_a_uri_that_leads_out_of_the_folder_is_refused(uri, folder):
    with pytest.raises(ValueError, match="leads out"):
        path_of(folder, uri)


def test_every_file_gets_a_row_with_its_hash(folder, tmp_path):
    names = ["a.jpg", "b/notes.txt", ".DS_Store", "c.xmp", "d"]
    fill(folder, names)
    report, rows = crawl(folder, tmp_path)
    assert set(rows) == set(names)
    assert rows["b/notes.txt"]["sha256"] == hashlib.sha256(b"content of b/notes.txt").hexdigest()
    assert {row["status"] for row in rows.values()} == {"found"}
    assert (report.kept, report.rejected) == (5, {})


def test_what_cannot_be_read_gets_its_reason(folder, tmp_path):
    fill(folder, ["good.jpg", "large.jpg", "gone.jpg", "killer.jpg"])
    (folder / "empty.jpg").touch()
    os.truncate(folder / "large.jpg", 2000)
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "link").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    report, rows = crawl(folder, tmp_path, Options(max_bytes=1000), quarantine=["killer.jpg"])
    reasons = {uri: row["reason"] for uri, row in rows.items() if row["status"] == "failed"}
    assert reasons == {
        "large.jpg": "too_many_bytes",
        "killer.jpg": "crash",
        "empty.jpg": "empty",
        "pipe": "not_a_file",
        "dangling": "vanished",
        "link": "not_a_file",
        "loop": "unreadable",
    }
    assert report.kept == 2
    assert sum(report.rejected.values()) == 7


def test_a_file_that_goes_after_the_listing_has_vanished(folder, tmp_path):
    fill(folder, ["a.jpg"])
    part = tmp_path / "part.json"
    part.write_text('[["a.jpg",1,2,3],["b.jpg",1,2,3]]')
    shard = WorkShard(stage="crawl", bucket="p", inputs=(str(folder), str(part)), output=str(tmp_path / "p"), seed=0)
    assert run(shard, Options()).rejected == {"vanished": 1}


def test_the_same_folder_makes_the_same_bytes(folder, tmp_path):
    fill(folder, ["b.jpg", "a.jpg", "c/d.jpg"])
    first, _ = crawl(folder, tmp_path)
    (tmp_path / "out/p000000.parquet").unlink()
    second, _ = crawl(folder, tmp_path)
    assert first == second
    assert not (tmp_path / "out/p000000.on").exists()


@pytest.mark.parametrize("table", ["licences.tsv", "LICENSES.tsv", "MANIFEST.tsv"])
@pytest.mark.parametrize("column", ["licence", "license"])
def test_a_rights_table_speaks_for_the_files_it_names(table, column, folder, tmp_path):
    fill(folder, ["a/x.jpg", "a/y.jpg", "z.jpg"])
    lines = [f"path\t{column}\tauthor", "x.jpg\tCC0-1.0\tAda", "./y.jpg\tCC-BY-4.0\t"]
    (folder / "a" / table).write_text("\n".join(lines))
    _, rows = crawl(folder, tmp_path, Options(licence="all rights reserved", author="Grace"))
    found = {uri: (row["licence"], row["author"]) for uri, row in rows.items() if uri.endswith(".jpg")}
    assert found == {
        "a/x.jpg": ("CC0-1.0", "Ada"),
        "a/y.jpg": ("CC-BY-4.0", "Grace"),
        "z.jpg": ("all rights reserved", "Grace"),
    }


def test_the_nearest_rights_table_wins(folder, tmp_path):
    fill(folder, ["a/x.jpg", "a/y.jpg"])
    (folder / "licences.tsv").write_text("path\tlicence\na/x.jpg\tfar\na/y.jpg\tfar\n")
    (folder / "a/MANIFEST.tsv").write_text("path\tnote\tlicence\nx.jpg\tof 1999\tnear\n")
    _, rows = crawl(folder, tmp_path)
    assert (rows["a/x.jpg"]["licence"], rows["a/y.jpg"]["licence"]) == ("near", "far")


def test_a_rights_table_with_hostile_text_is_read(folder, tmp_path):
    fill(folder, [b"\xff.jpg"])
    (folder / "licences.tsv").write_bytes(b'\xef\xbb\xbfpath\tlicence\tauthor\r\n\xff.jpg\tCC0 "1"\tJos\xe9\r\n\tx\n')
    _, rows = crawl(folder, tmp_path)
    assert (rows["%FF.jpg"]["licence"], rows["%FF.jpg"]["author"]) == ('CC0 "1"', "Jos?")


def test_a_rights_table_that_cannot_be_read_is_an_error(folder, tmp_path):
    fill(folder, ["x.jpg"])
    (folder / "licences.tsv").mkdir()
    with pytest.raises(ShardError, match=r"licences\.tsv"):
        crawl(folder, tmp_path)


def test_a_changed_rights_table_changes_the_digest(folder):
    fill(folder, ["a/x.jpg", "a/licences.tsv"])
    before = rights_digest(folder)
    fill(folder, ["a/y.jpg"])
    assert rights_digest(folder) == before
    (folder / "a/licences.tsv").write_text("path\tlicence\nx.jpg\tCC0\n")
    assert rights_digest(folder) != before


@pytest.mark.parametrize("buckets", [1, 7, 64])
def test_buckets_are_evenly_filled_and_fixed_by_the_hash(buckets):
    hashes = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(6400)]
    counts = [0] * buckets
    for sha256 in hashes:
        counts[bucket_of(sha256, buckets)] += 1
    expected = 6400 / buckets
    assert all(abs(count - expected) < 5 * expected**0.5 + 1 for count in counts)
    assert bucket_of("0000000000000005" + "f" * 48, 3) == 2
