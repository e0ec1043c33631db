"""What a pull request says that its merge does."""

import pytest
from release_examples import release

from mergeline.documents import parse
from mergeline.github.effects import NOTHING, merging, merging_of
from mergeline.github.git import Git
from mergeline.manifest.edit import abort, add_hold, empty_manifest, finish, promote, rollback
from mergeline.manifest.schema import Manifest
from mergeline.release_params import Analysis, Rollout, Step

EMPTY = empty_manifest("flights")
STEPS = (Step(weight=5, hold="15m"), Step(weight=25, hold="15m"), Step(weight=50, hold="15m"))
CANARY, SHADOW = Rollout(strategy="canary", steps=STEPS), Rollout(strategy="shadow")


def served(*versions):
    text = EMPTY
    for version in versions:
        text = promote(text, release(version))
    return text


LOOK = Analysis(name="x", metric="error_rate", interval="1m", success="<= 0.01", failure="> 0.05")
ONE, TWO = served(1), served(1, 2)
ROLLING = promote(TWO, release(3), CANARY)
CASES = {
    "the first": (EMPTY, ONE, "serves version 1, the first model"),
    "a release": (ONE, TWO, "replaces version 1 by version 2 at once"),
    "a canary": (TWO, ROLLING, "starts a canary of version 3: 5 % → 25 % → 50 %; version 2 stays stable"),
    "a shadow": (
        TWO, promote(TWO, release(3), SHADOW), "runs version 3 in the shadow of version 2: it answers nobody",
    ),
    "a newer canary": (
        ROLLING, promote(ROLLING, release(4), CANARY), "takes version 3 off, and starts a canary of version 4: 5 %",
    ),
    "a promotion": (ROLLING, finish(ROLLING), "makes version 3 stable, at the end of its rollout; version 2 is kept"),
    "an abort": (ROLLING, abort(ROLLING, "slow"), "ends the rollout of version 3 and holds it; version 2 stays stable"),
    "a rollback": (TWO, rollback(TWO, "wrong"), "takes production back to version 1, and holds version 2"),
    "a revert": (TWO, ONE, "takes production back to version 1"),
    "a reverted promotion": (
        finish(ROLLING), ROLLING, "takes production back to version 2, and starts a canary of version 3: 5 % → 25 %",
    ),
    "a hold": (TWO, add_hold(TWO, "sha256:" + "e" * 64, "no"), f"{NOTHING}; it holds one"),
    "a failed candidate that comes back": (
        abort(ROLLING, "slow"), ROLLING,
        "starts a canary of version 3: 5 % → 25 % → 50 %; version 2 stays stable; it lifts a hold",
    ),
    "a hold that gives way to another": (
        add_hold(TWO, "sha256:" + "e" * 64, "no"), add_hold(TWO, "sha256:" + "f" * 64, "no"),
        f"{NOTHING}; it holds one, so that it is not proposed again; it lifts a hold",
    ),
    "nothing": (TWO, TWO, NOTHING),
    "other steps of a canary": (
        ROLLING,
        promote(TWO, release(3), Rollout(strategy="canary", steps=STEPS[2:], analysis=(LOOK,))),
        "begins the rollout of version 3 anew: it starts a canary of version 3: 50 %, judged by 1 analyses in",
    ),
    "a model of another name": (
        TWO, promote(empty_manifest("shop"), release(1)),
        "serves version 1 of shop in place of version 2 of flights, with which",
    ),
}  # fmt: skip


def manifest(text):
    return parse(text, Manifest, "deploy/manifest.yaml")


@pytest.mark.parametrize("case", CASES)
def test_each_change_of_a_manifest_has_its_sentence(case):
    before, after, words = CASES[case]
    assert merging(manifest(before), manifest(after)).startswith(words)


class TestABranch:
    @pytest.fixture(autouse=True)
    def _repository(self, tmp_path):
        self.git = Git.init(tmp_path)
        self.commit("main", {"deploy/manifest.yaml": ONE, "file": "a"})

    def commit(self, branch, files, start=None):
        if start:
            self.git.switch(branch, start=start)
        for path, text in files.items():
            (self.git.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.git.folder / path).write_text(text)
        return self.git.commit(branch, *files)

    def test_it_is_compared_with_where_it_left_main(self):
        self.commit("topic", {"file": "b"}, start="main")
        self.commit("main", {"deploy/manifest.yaml": TWO}, start="main")
        assert merging_of(self.git, "main", "topic") == {"": NOTHING}

    def test_the_first_of_several_environments_is_named(self):
        self.commit("main", {"deploy/staging/manifest.yaml": ONE})
        self.commit("topic", {"deploy/staging/manifest.yaml": TWO}, start="main")
        words = {"": "goes to staging: it replaces version 1 by version 2 at once"}
        assert merging_of(self.git, "main", "topic") == words

    def test_several_models_are_named(self):
        self.commit("main", {"models/late/deploy/manifest.yaml": ONE, "models/lost/deploy/manifest.yaml": ONE})
        self.commit("topic", {"models/late/deploy/manifest.yaml": TWO}, start="main")
        words = {"": NOTHING, "late": "replaces version 1 by version 2 at once", "lost": NOTHING}
        assert merging_of(self.git, "main", "topic") == words

    def test_a_manifest_that_goes_is_told(self):
        path = "models/late/deploy/manifest.yaml"
        self.commit("main", {path: ONE})
        self.git.switch("topic", start="main")
        (self.git.folder / path).unlink()
        self.git.commit("retire", path)
        words = {"": NOTHING, "late": "takes the manifest of production away: who follows it stays as it is"}
        assert merging_of(self.git, "main", "topic") == words
