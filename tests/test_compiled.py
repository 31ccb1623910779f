"""Machine code: compiled once by whoever needs it first, exact to the last bit, and never in the way of a build."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest

from degradations import load
from degradations.kernels import _compiled
from degradations.kernels._compiled import compiled, inlined, kept_in
from degradations.numerics import strips
from degradations.pairs import render
from degradations.pairs.render import render_params
from tests.scenes import annotated, photograph, sampled

ROOT = Path(__file__).parents[1]
COUNT = """
import sys
from degradations.kernels import grain
sys.stdout.write(str(sum(grain.shot_noise.stats.cache_misses.values())))
"""


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Kernels are kept in a folder of this test."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def doubled(x: np.ndarray, out: np.ndarray) -> None:
    for place in range(x.size):
        out[place] = x[place] + x[place]


def twice(values):
    out = np.zeros(len(values), np.float32)
    compiled("void(f4[::1], f4[::1])")(doubled)(np.array(values, np.float32), out)
    return out.tolist()


def test_a_kernel_is_kept_and_found_again(kept):
    twice([1])
    files = {file: file.stat().st_mtime_ns for file in kept.rglob("*.nb*")}
    assert twice([2, 3]) == [4, 6]
    assert {file: file.stat().st_mtime_ns for file in kept.rglob("*.nb*")} == files != {}


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_damaged_file_costs_one_compilation(kept, suffix, size):
    twice([1])
    (file,) = kept.rglob(f"*.{suffix}")
    file.write_bytes(file.read_bytes()[:size])
    assert twice([2]) == [4]
    assert twice([3]) == [6]
    assert file.stat().st_size > 100


def test_an_index_whose_code_was_never_written_costs_one_compilation(kept):
    twice([1])
    (file,) = kept.rglob("*.nbc")
    file.rename(file.with_name(f"{file.name}.tmp.0123"))  # as kill -9 leaves it
    assert twice([2]) == [4]
    assert file.exists()


def test_code_of_versions_that_nobody_uses_is_removed_when_a_new_one_is_made(kept):
    days = {"kernels-a": 31, "kernels-b": 29, "numba-of-another": 99}
    for name, age in days.items():
        (kept / name).mkdir()
        (kept / name / "code.nbc").touch()
        (kept / name / "lock").touch()
        os.utime(kept / name / "lock", (time.time() - 86400 * age,) * 2)
    own = kept_in()
    assert {file.name for file in kept.iterdir()} == {"kernels-b", "numba-of-another", own.name}
    os.utime(kept / "kernels-b" / "lock", (0, 0))
    kept_in()
    assert (kept / "kernels-b").exists()  # only when a new one is made


def test_a_folder_that_goes_away_costs_a_compilation(kept, monkeypatch):
    monkeypatch.setattr(_compiled, "kept_in", lambda: kept / "gone")
    assert twice([2]) == [4]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    assert kept_in() is None
    assert twice([2]) == [4]


def test_a_user_without_a_home_keeps_kernels_beside_the_source(monkeypatch):
    def nowhere(path):
        if str(path)[0] != "~":
            return path
        raise RuntimeError("no home")

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(Path, "expanduser", nowhere)
    found = kept_in()
    assert found is None or found.is_relative_to(ROOT / "degradations")


def test_workers_that_start_together_compile_once(tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    start = [
        subprocess.Popen([sys.executable, "-c", COUNT], env=environment, stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(3)
    ]
    assert sorted(process.communicate()[0] for process in start) == [b"0", b"0", b"1"]


def test_a_product_is_rounded_before_it_is_added(kept):
    def fused(a: np.ndarray, out: np.ndarray) -> None:
        for place in range(a.size):
            out[place] = a[place] * a[place] - out[place]

    a = np.arange(1, 4097, dtype=np.float32) / np.float32(4096) + 1
    out = a * a
    compiled("void(f4[::1], f4[::1])")(fused)(a, out)
    assert not out.any()  # one rounding for both would leave what the product lost
    assert (a.astype(np.float64) ** 2 != (a * a)).any()


@inlined
def first_of_a_new_array(x: np.ndarray) -> np.float32:
    return np.zeros(4, np.float32)[0] + x[0]


def test_a_piece_that_makes_an_array_does_not_compile(kept):
    """Where references to arrays are counted, each slice in a loop costs as much as 40 values."""

    def kernel(x: np.ndarray, out: np.ndarray) -> None:
        out[0] = first_of_a_new_array(x)

    with pytest.raises(numba.core.errors.TypingError):
        compiled("void(f4[::1], f4[::1])")(kernel)


def test_a_kernel_takes_one_type_and_leaves_its_input(kept):
    with pytest.raises(TypeError, match="float64"):
        compiled("void(f4[::1], f4[::1])")(doubled)(np.zeros(3), np.zeros(3, np.float32))

    def spoil(x: np.ndarray, out: np.ndarray) -> None:
        x[0] = out[0]

    with pytest.raises(numba.core.errors.TypingError):
        compiled("void(f4[::1], f4[::1])")(spoil)


@pytest.mark.parametrize("name", ["haze", "rain", "moire", "low_light", "noise"])
def test_no_byte_depends_on_strips_or_threads(name, monkeypatch):
    scene = annotated(photograph("coffee", 240))
    drawn = [(load(name), sampled(name, 0.7, scene, 5))]
    whole = render_params(scene, drawn).degraded
    with ThreadPoolExecutor(3) as pool:
        at_once = list(pool.map(lambda _: render_params(scene, drawn).degraded, range(6)))
    monkeypatch.setattr(render, "strips", lambda shape: strips.strips(shape, pixels=shape[1] * 8))
    narrow = render_params(scene, drawn).degraded
    assert all(np.array_equal(image, whole) for image in (*at_once, narrow))
