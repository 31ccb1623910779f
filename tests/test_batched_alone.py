"""The GPU script runs where there is nothing but torch and NumPy, and finds no difference from the CPU."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu_degradations.py"
BARE = """
import runpy, sys
absent = {"cv2", "scipy", "PIL", "pydantic", "skimage", "sklearn", "storage", "einops"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_gpu_script_needs_torch_and_numpy_only() -> None:
    given = ["--device", "cpu", "--side", "48", "--batches", "2", "--repeat", "1"]
    run = subprocess.run([sys.executable, "-c", BARE, str(SCRIPT), *given], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    rows = run.stdout.splitlines()[2:]
    assert len(rows) == 7
    assert all("0 codes" in row for row in rows)
