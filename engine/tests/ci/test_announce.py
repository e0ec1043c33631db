"""What pull requests are told after a merge: where their model serves, and that an open one is outdated."""

import yaml

from mergeline.ci.announce import announce, standing, words
from mergeline.ci.comment import comment_on_pull
from mergeline.ci.comment_text import CommentContext
from mergeline.github.actions import Job
from mergeline.github.production import read_revisions
from mergeline.github.pull_requests import STALE
from mergeline.manifest.edit import rollback
from mergeline.release.history import history


def proposed(scene, seed, branch=None):
    """An open pull request with the model of this seed on it, and a green check."""
    pull = scene.pull(branch or f"change-{seed}", f"model: {seed}")
    scene.bundle(pull, seed)
    applied = scene.apply(pull)
    assert applied.commit, applied.error
    scene.forge.check(applied.commit, "mergeline", success=True, title="Accepted", summary="")
    return scene.forge.get(pull.number)


def announced(scene, before=""):
    return announce(scene.git, scene.forge, before)


def told(scene, pull, key="serving"):
    path = scene.forge.folder / "pulls" / str(pull.number) / "comments" / f"{key}.md"
    return path.read_text() if path.exists() else ""


def check_of(scene, pull):
    return yaml.safe_load((scene.forge.folder / "checks" / pull.head / "mergeline.yaml").read_text())


class TestWhereItServes:
    def test_the_merged_pull_request_says_environment_version_digest_since_when_and_how_to_take_it_back(self, scene):
        pull, before = proposed(scene, 2), scene.main()
        scene.forge.merge(pull.number)
        assert announced(scene, before) == (f"#{pull.number} says where it serves",)
        said, stable = told(scene, pull), scene.manifest("main").spec.stable
        assert said.startswith("### 🚀 flights: version 2 serves in production\n")
        assert f"Digest: `{stable.digest}`" in said
        assert f"({scene.main()[:12]}, #{pull.number})" in said
        assert "`mergeline rollback 'what failed' --pull-request`" in said

    def test_of_several_models_the_command_names_the_one(self, scene):
        scene.forge.merge(proposed(scene, 2).number)
        scene.git.fetch("origin", "main")
        moments = history(read_revisions(scene.git, scene.main()), "flights")
        where = standing("production", moments[0].serving.digest, moments)
        said = words("fraud", moments[0].serving, [where], ["production"], "fraud")
        assert "`mergeline rollback 'what failed' --pull-request --model fraud`" in said

    def test_the_same_again_changes_nothing(self, scene):
        pull, before = proposed(scene, 2), scene.main()
        scene.forge.merge(pull.number)
        announced(scene, before)
        first = told(scene, pull)
        announced(scene, before)
        announced(scene)  # where nobody knows what was announced last
        assert told(scene, pull) == first

    def test_a_model_that_was_replaced_says_so_where_it_was_proposed(self, scene):
        first = proposed(scene, 2)
        scene.forge.merge(first.number)
        second, before = proposed(scene, 3), scene.main()
        scene.forge.merge(second.number)
        announced(scene, before)
        assert told(scene, first).startswith("### ⏹️ flights: version 2 serves no more\n")
        assert "version 3 serves" in told(scene, first)

    def test_a_model_that_was_taken_back_says_why(self, scene):
        pull = proposed(scene, 2)
        scene.forge.merge(pull.number)
        before = scene.main()
        text = rollback(scene.base_text(), "charged | twice", 9)
        scene.commit("main", "deploy/manifest.yaml", text)
        lines = announced(scene, before)
        assert "version 1 serves: charged \\| twice" in told(scene, pull)
        assert any(line.startswith("#9 is not told: there is no such pull request") for line in lines)

    def test_a_candidate_says_how_it_rolls_out_and_how_its_rollout_is_aborted(self, scene):
        pull, before = scene.pull("canary", "model: 2"), scene.main()
        text = scene.base_text().replace("strategy: replace", "strategy: shadow")
        scene.commit("main", "deploy/manifest.yaml", text)
        release = scene.bundle(pull, 2).model_dump(mode="json")
        release["evidence"]["pull"] = pull.number
        tree = yaml.safe_load(text)
        tree["spec"]["candidate"] = release
        scene.commit("canary", "deploy/manifest.yaml", yaml.safe_dump(tree), start="origin/main")
        scene.forge.merge(pull.number)
        announced(scene, before)
        assert told(scene, pull).startswith("### 🔀 flights: version 2 rolls out in production\n")
        assert "| production | shadow next to version 1 |" in told(scene, pull)
        assert "`mergeline rollout abort 'what failed' --pull-request`" in told(scene, pull)


class TestAnOutdatedPullRequest:
    def test_is_labelled_and_told_what_to_do_and_loses_its_green_check(self, scene):
        first, rival, before = proposed(scene, 2), proposed(scene, 3), scene.main()
        scene.forge.merge(first.number)
        assert f"#{rival.number} is outdated" in announced(scene, before)
        assert STALE in scene.forge.get(rival.number).labels
        said = told(scene, rival, STALE)
        assert said.startswith("### ⏳ Outdated: main serves version 2 of flights by now\n")
        assert f"run model.yml (*Actions → model → Run workflow*, with the number {rival.number})" in said
        assert check_of(scene, rival)["success"] is False

    def test_one_of_the_automation_says_that_it_is_made_again_by_itself(self, scene):
        first, rival = proposed(scene, 2), proposed(scene, 3, "retrain/flights")
        scene.forge.merge(first.number)
        announced(scene)
        assert "watch.yml makes it again at its next look" in told(scene, rival, STALE)

    def test_one_that_proposes_nothing_is_left_alone(self, scene):
        notes = scene.commit("notes", start="origin/main")
        other = scene.forge.open_or_update("notes", "main", "Notes", "words", ["model"])
        scene.forge.check(notes, "mergeline", success=True, title="Accepted", summary="")
        scene.forge.merge(proposed(scene, 2).number)
        announced(scene)
        assert scene.forge.get(other.number).labels == ("model",)
        assert check_of(scene, other)["success"] is True

    def test_the_mark_goes_once_the_proposal_is_made_again(self, scene):
        first, rival = proposed(scene, 2), proposed(scene, 3)
        scene.forge.merge(first.number)
        announced(scene)
        comment_on_pull(scene.forge, scene.made, rival.number, Job(), CommentContext(), scene.git)
        assert STALE in scene.forge.get(rival.number).labels  # told of the same commit: nothing was made again
        scene.person.fetch("origin")
        scene.person.run("switch", "--quiet", "--force-create", rival.branch, rival.head)
        scene.person.run("merge", "--quiet", "--no-edit", "-Xours", "origin/main", settings=scene.person.identity())
        scene.person.push("origin", rival.branch, expected=rival.head)
        comment_on_pull(scene.forge, scene.made, rival.number, Job(), CommentContext(), scene.git)
        assert STALE not in scene.forge.get(rival.number).labels
        assert told(scene, rival, STALE).startswith("It is up to date again")

    def test_a_branch_of_the_automation_loses_it_when_it_is_made_anew(self, scene):
        scene.bundle(None, 2)
        number = scene.apply(branch="propose/next").pull
        scene.forge.label(number, STALE)
        scene.bundle(None, 3)
        assert scene.apply(branch="propose/next").pull == number
        assert scene.forge.get(number).labels == ("model",)
