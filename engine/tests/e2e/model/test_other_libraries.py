"""LightGBM and XGBoost in a pipeline: one line in pyproject.toml is enough. An environment of its own has them."""

import ctypes.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[3]
TRAIN = """
import sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
import numpy as np
from mergeline.model.artifact import folder_digest, load_model
from mergeline.model.check import check_model
from toy_data import orders, train_toy

root = Path(sys.argv[3])
digests = {folder_digest(folder := train_toy(root, model={"factory": f"boosters:{sys.argv[4]}"})) for _ in range(2)}
assert len(digests) == 1, digests
check_model(folder, name="orders", own=("boosters.*",))
assert np.isfinite(load_model(folder, trusted_types=("boosters.*",)).predict(orders("2024-05", 20))).all()
print("served by", type(load_model(folder, trusted_types=("boosters.*",)).pipeline[-1]).__name__)
"""


@pytest.mark.parametrize(("factory", "kind"), [("lightgbm", "LGBMClassifier"), ("xgboost", "XGBClassifier")])
def test_it_trains_reproducibly_is_checked_and_loads(tmp_path, factory, kind):
    if factory == "lightgbm" and ctypes.util.find_library("gomp") is None:
        pytest.skip("LightGBM needs the system's OpenMP: Debian's libgomp1")
    uv = os.environ.get("UV") or shutil.which("uv") or str(ENGINE.parent / ".tools" / "bin" / "uv")
    done = subprocess.run(
        [uv, "run", "--quiet", "--isolated", "--no-project", "--with", "lightgbm", "--with", "xgboost-cpu",
         "--with-editable", f"{ENGINE}[train]", "python", "-c", TRAIN, str(ENGINE / "tests"),
         str(ENGINE / "tests" / "packages"), str(tmp_path), factory],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"served by {kind}"
