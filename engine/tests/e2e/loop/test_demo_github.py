"""`make demo-github` in a clone of this repository, as a stranger runs it: about ten minutes."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from local_github.tools import MissingToolError, find_tools

pytestmark = [pytest.mark.slow]
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What the demo says; it has ended well."""
    try:
        find_tools()
    except MissingToolError as error:
        pytest.skip(str(error))
    root = tmp_path_factory.mktemp("demo") / "mergeline"
    subprocess.run(["git", "clone", "--quiet", f"file://{ROOT}", str(root)], check=True)
    (root / ".tools").mkdir()
    for name in ("bin", "emulate"):  # what `make` has installed
        (root / ".tools" / name).symlink_to(ROOT / ".tools" / name)
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        ["make", "demo-github"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((root / "demo" / "github" / "pages").glob("*.html"))) > 9
    return done.stdout


@pytest.mark.parametrize(
    "told",
    [
        r"comment: .*Rejected",
        r"✓ main serves version 3\n",
        r"#4 by github-actions: flights: version 4\n",
        r"✓ main serves version 3 again, and what failed is under a hold",
        r"✓ #7 by github-actions: flights: version 5, retrained\n",
        r"✓ #8 by github-actions: flights: version 5 becomes stable\n",
        r"✓ the guard took it off \d+ s after the merge",
        r"✓ #10 by github-actions: flights: version 6 is taken off\n",
        r"The loop is closed",
    ],
)
def test_each_scene_ends_as_it_should(shown, told):
    assert re.search(told, shown), shown
