"""Prefect flows and the command line: the only code that imports prefect."""

import sys
from pathlib import Path

# An editable install comes after site-packages, where a package may be called like one of ours: the wheel of sam2
# brings a `training`. Ours must win wherever a flow or the command line starts; on workers Ray puts our root first.
_ROOT = str(Path(__file__).resolve().parents[1])
if sys.path[:1] != [_ROOT]:
    sys.path.insert(0, _ROOT)
