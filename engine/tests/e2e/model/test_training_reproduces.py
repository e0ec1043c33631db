"""Training in another folder, with another number of threads, gives the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

from toy_data import write_months

TRAIN_ELSEWHERE = """
from pathlib import Path
from toy_data import toy_params
from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import make_split
from mergeline.model.train import train
params = toy_params(model={"factory": "toy.model:boosted", "arguments": {"max_iter": 20, "early_stopping": True}})
split = make_split(Path(), params.data, params.split, load_schema(params.data))
print(train(Path(), params, split, Path("model").absolute()))
"""


def test_two_folders_and_one_or_two_threads_give_the_same_bytes(tmp_path):
    digests = set()
    for name, threads, seed in (("a", "1", "1"), ("b", "2", "2")):
        write_months(tmp_path / name / "data")
        tests = Path(__file__).parents[2]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": threads,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join([str(tests), str(tests / "packages")]),
        }
        done = subprocess.run(
            [sys.executable, "-c", TRAIN_ELSEWHERE],
            cwd=tmp_path / name,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.strip())
    assert len(digests) == 1
