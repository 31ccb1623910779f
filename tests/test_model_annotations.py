"""A build whose depth and segments models make: small random checkpoints, the whole job in one process."""

import pytest

from flows.__main__ import run
from storage.ledger import read_table
from tests.builds import build_here, settings_for, tree, write_photographs

pytest.importorskip("sam2")
pytest.importorskip("transformers")

from tests.test_midas import folders  # noqa: F401  (a fixture)
from tests.test_sam2 import FOLDER, folder  # noqa: F401  (a fixture)

DEPTH_READERS = {"haze": 1, "rain": 1, "blur": 1}


@pytest.fixture
def tables(folders, folder):  # noqa: F811
    annotate = {"depth": "midas", "depth_weights": str(folders("dpt")), "midas": {"batch": 2}}
    annotate |= {"segments": "sam2", "segments_weights": str(folder), "sam2": FOLDER.model_dump()}
    return {"annotate": annotate, "mixture": {"variants": 3, "weights": DEPTH_READERS}}


def test_a_build_with_models_is_replayed_and_comes_out_the_same_again(tables, tmp_path):
    photographs = write_photographs(tmp_path / "photographs", count=2)
    outcome, _ = build_here(settings_for(photographs, tmp_path / "a", **tables))
    assert outcome.manifest is not None
    rows = [row for file in (tmp_path / "a/.work").rglob("annotate/*.parquet") for row in read_table(file)]
    assert {row["depth_backend"].partition(":")[0] for row in rows} == {"midas-1"}
    assert {row["segments_backend"].partition(":")[0] for row in rows} == {"sam2-1"}
    assert run(["verify", str(tmp_path / "a"), "--replay", "4"]) == 0
    build_here(settings_for(photographs, tmp_path / "b", **tables))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
