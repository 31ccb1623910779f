"""Pictures of a benchmark are found by name whatever their order and suffix, in folders, FoundIR's ids and Parquet."""

import io
import json
from collections import Counter

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.errors import SettingsError, ShardError
from tasks.gallery import FOUNDIR, folder_gallery, foundir_gallery, foundir_task, read_index, task_of, with_index
from tasks.gallery_tables import Columns, table_gallery


def png(level=0):
    stream = io.BytesIO()
    PIL.Image.fromarray(np.full((40, 48, 3), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def fill(root, names):
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"%d" % number)
    return root


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("rain", "rain"),
        ("Rain", "rain"),
        ("LowLight", "low_light"),
        ("low-light", "low_light"),
        ("low_light", "low_light"),
        ("Lowlight_Haze", "low_light_haze"),
        ("moir\u00e9", "moire"),
        ("JPEG", "compression"),
        ("01Blur", "blur"),
        ("04Blur_Noise_JPEG", "blur_noise_compression"),
        ("13Rain_Haze", "rain_haze"),
        ("haze_rain", "rain_haze"),
        ("12NightRain", "low_light_rain"),
        ("20Lowlight_Noise_JPEG", "low_light_noise_compression"),
        ("deblur", "blur"),
        ("rain_flare", ""),
        ("results", ""),
        ("", ""),
        ("train", ""),
    ],
)
def test_a_folders_name_tells_the_task(text, task):
    assert task_of(text) == task


def test_names_lose_their_suffix_whatever_its_case_and_the_order_of_files(tmp_path):
    names = ["rain/b.JPG", "haze/2.v1.Png", "rain/a.jpeg", "c.TIFF", "rain/notes.txt", "rain/raw.dng"]
    found = folder_gallery(fill(tmp_path, names))
    assert dict(found.tasks) == {"rain/b": "rain", "haze/2.v1": "haze", "rain/a": "rain", "c": ""}
    assert (found.read("rain/a"), found.read("rain/b")) == (b"2", b"0")


def test_two_folders_match_whatever_their_suffixes_and_order(tmp_path):
    one = folder_gallery(fill(tmp_path / "in", ["rain/2.JPG", "rain/10.jpg", "rain/1.jpg"]))
    other = folder_gallery(fill(tmp_path / "out", ["rain/10.png", "rain/1.PNG", "rain/2.webp"]))
    assert set(one.tasks) == set(other.tasks)
    assert [other.read(name) for name in ("rain/1", "rain/2", "rain/10")] == [b"1", b"2", b"0"]


def test_two_files_of_one_name_are_wrong_use(tmp_path):
    with pytest.raises(SettingsError, match=r"two pictures named rain/a .*a\.jpg.*a\.png"):
        folder_gallery(fill(tmp_path, ["rain/a.png", "rain/a.jpg"]))


def test_a_folder_that_is_not_there_is_wrong_use(tmp_path):
    with pytest.raises(SettingsError, match="no folder"):
        folder_gallery(tmp_path / "nowhere")


def test_foundirs_subsets_are_as_large_as_published():
    sizes = Counter(foundir_task(f"{number:04d}") for number in range(1, 1501))
    assert len(sizes) == len(FOUNDIR) == 20
    isolated = {
        "blur": 150,
        "noise": 100,
        "compression": 50,
        "haze": 200,
        "rain": 100,
        "raindrop": 100,
        "low_light": 50,
    }
    hundred = {"low_light_haze", "low_light_blur"}
    assert all(sizes[task] == isolated.get(task, 100 if task in hundred else 50) for task in sizes)


@pytest.mark.parametrize(
    ("last", "task"),
    [
        ("0150", "blur"),
        ("0151", "blur_noise"),
        ("0501", "haze"),
        ("0700", "haze"),
        ("1051", "rain_haze"),
        ("1100", "rain_haze"),
    ],
)
def test_the_weather_specialists_ids_lie_in_weather_subsets(last, task):
    assert foundir_task(last) == task


@pytest.mark.parametrize("name", ["0000", "1501", "151", "00151", "a151", ""])
def test_other_names_are_no_ids_of_foundir(name):
    assert foundir_task(name) == ""


def test_foundir_pictures_are_matched_by_id_across_folders_sides_and_suffixes(tmp_path):
    whole = fill(
        tmp_path / "test", ["01Blur/GT/0001.png", "01Blur/LQ/0001.png", "06JPEG/GT/0401.png", "06JPEG/LQ/0401.JPG"]
    )
    outputs = foundir_gallery(fill(tmp_path / "out", ["0401.png", "0001.png", "log.png"]), side="restored")
    degraded, clean = foundir_gallery(whole, side="LQ"), foundir_gallery(whole, side="GT")
    assert dict(degraded.tasks) == dict(clean.tasks) == dict(outputs.tasks) == {"0001": "blur", "0401": "compression"}
    assert (clean.read("0401"), degraded.read("0401")) == (b"2", b"3")


def test_an_index_says_more_than_a_folder_and_less_is_filled(tmp_path):
    table = tmp_path / "index.tsv"
    table.write_text("\ufeffname\ttask\n\nrain/a.jpg\tLowLight\nb , moire\n", encoding="utf-8")
    found = with_index(
        folder_gallery(fill(tmp_path / "p", ["rain/a.png", "b.png", "c.png"])), read_index(table), otherwise="haze"
    )
    assert dict(found.tasks) == {"rain/a": "low_light", "b": "moire", "c": "haze"}


@pytest.mark.parametrize("text", ["a\n", "a\tb\tc\n", "\train\n", "a\t\n"])
def test_an_index_line_that_is_no_name_and_task_is_told_by_number(text, tmp_path):
    table = tmp_path / "index.tsv"
    table.write_text("x\train\n" + text)
    with pytest.raises(SettingsError, match=r"index\.tsv, line 2"):
        read_index(table)


def hugging_face(names):
    return {b"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()}


def write(path, columns, metadata=None, groups=2):
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=groups)
    return path


def test_parquet_as_the_datasets_library_writes_it_is_read_by_task_and_file_name(tmp_path):
    images = [{"bytes": png(level), "path": f"00{level}.jpg"} for level in range(5)]
    labels = [0, 1, 1, 0, 1]
    write(tmp_path / "a.parquet", {"image": images, "label": labels}, hugging_face(["rain", "LowLight"]))
    found = table_gallery(tmp_path, Columns())
    assert dict(found.tasks) == {
        "rain/000": "rain",
        "low_light/001": "low_light",
        "low_light/002": "low_light",
        "rain/003": "rain",
        "low_light/004": "low_light",
    }
    assert [found.read(name) for name in ("low_light/004", "rain/000")] == [png(4), png(0)]


def test_parquet_of_bare_bytes_is_named_by_row_across_files(tmp_path):
    write(tmp_path / "a.parquet", {"png": [png(1), png(2)]})
    write(tmp_path / "b.parquet", {"png": [png(3)]})
    found = table_gallery(tmp_path, Columns())
    assert {name: found.read(name) for name in found.tasks} == {"000000": png(1), "000001": png(2), "000002": png(3)}


def test_a_number_that_nothing_names_is_no_task(tmp_path):
    found = table_gallery(write(tmp_path / "a.parquet", {"image": [png(1), png(2)], "label": [0, 1]}), Columns())
    assert list(found.tasks.values()) == ["", ""]


@pytest.mark.parametrize(
    ("file", "task"),
    [
        ("rain-00000-of-00001.parquet", "rain"),
        ("low_light-0.parquet", "low_light"),
        ("haze/test-00000-of-00001.parquet", "haze"),
        ("test/0000.parquet", ""),
    ],
)
def test_without_a_column_of_tasks_the_files_name_or_folder_may_tell(file, task, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    write(tmp_path / file, {"image": [{"bytes": png(1), "path": "a.png"}]})
    assert list(table_gallery(tmp_path, Columns()).tasks.values()) == [task]


def test_named_columns_are_taken(tmp_path):
    file = write(tmp_path / "a.parquet", {"lq": [png(1)], "gt": [png(2)], "what": ["haze"], "who": ["x/y.png"]})
    found = table_gallery(file, Columns(image="gt", name="who", task="what"))
    assert {name: found.read(name) for name in found.tasks} == {"haze/y": png(2)}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (Columns(), "columns with bytes: lq, gt"),
        (Columns(image="x"), "no column x"),
        (Columns(image="lq", task="x"), "no column x"),
    ],
)
def test_columns_that_cannot_be_told_are_wrong_use(columns, told, tmp_path):
    file = write(tmp_path / "a.parquet", {"lq": [png(1)], "gt": [png(2)]})
    with pytest.raises(SettingsError, match=told):
        table_gallery(file, columns)


def test_a_file_that_is_no_parquet_is_told(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(ShardError, match=r"a\.parquet"):
        table_gallery(tmp_path, Columns())


def test_a_row_without_a_picture_is_told_when_it_is_read(tmp_path):
    image = pa.array([{"bytes": None, "path": "a.png"}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    found = table_gallery(write(tmp_path / "a.parquet", {"image": image}), Columns())
    with pytest.raises(ShardError, match="no bytes"):
        found.read("a")


def test_tasks_are_told_by_what_a_column_holds_whatever_it_is_called(tmp_path):
    columns = {"type": ["real", "real"], "what_is_wrong": ["Low-light", "moire"], "prompt": ["mend it", "mend it"]}
    found = table_gallery(write(tmp_path / "a.parquet", {"picture": [png(1), png(2)], **columns}), Columns())
    assert dict(found.tasks) == {"low_light/000000": "low_light", "moire/000001": "moire"}


def test_the_folder_of_a_file_name_tells_its_task(tmp_path):
    images = [{"bytes": png(1), "path": "bench/haze/1.png"}, {"bytes": png(2), "path": "C:\\rain\\1.png"}]
    found = table_gallery(write(tmp_path / "a.parquet", {"image": images}), Columns())
    assert dict(found.tasks) == {"haze/1": "haze", "rain/1": "rain"}


@pytest.mark.parametrize("kind", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_files_are_read_like_parquet(kind, tmp_path):
    images = [{"bytes": png(level), "path": f"{level}.png"} for level in range(3)]
    table = pa.table({"image": images, "degradation": ["rain", "haze", "rain"]})
    with kind(str(tmp_path / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    found = table_gallery(tmp_path, Columns())
    assert {name: found.read(name) for name in found.tasks} == {"rain/0": png(0), "haze/1": png(1), "rain/2": png(2)}


def test_an_arrow_file_that_is_cut_short_is_told(tmp_path):
    (tmp_path / "a.arrow").write_bytes(b"\xff\xff\xff\xff\x10\x00")
    with pytest.raises(ShardError, match=r"a\.arrow is no Arrow file"):
        table_gallery(tmp_path, Columns())
