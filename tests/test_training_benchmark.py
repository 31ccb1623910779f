"""The GPU benchmark runs on what a bare GPU machine has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed: install PairForge's `train` extra")

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu_training.py"
ABSENT = ("cv2", "pydantic", "PIL", "scipy", "ray", "prefect", "transformers", "diffusers", "peft", "torchao", "pandas")
# The script with the modules above made impossible to import.
BARE = f"""
import runpy, sys
for name in {ABSENT!r}:
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_the_benchmark_runs_on_torch_einops_and_safetensors_alone():
    arguments = ["--tiny", "--device", "cpu", "--size", "16", "--repeats", "1", "--checkpointed", "1"]
    command = [sys.executable, "-c", BARE, str(SCRIPT), *arguments, "--attention", "default", "--states", "fp32,bf16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    first, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["model"] == "tiny"
    assert [sorted(row.keys() & {"step_s", "image_s", "failed"}) for row in rows] == [
        ["step_s"],
        ["step_s"],
        ["image_s"],
    ]
