"""Handing a proposal to a pull request: what is committed, and what is refused."""

import pytest
from release_examples import release

from forge_with_buttons import ForgeWithButtons
from mergeline.errors import ForgeError
from mergeline.github.git import Git
from mergeline.github.open_proposal import open_forge, open_forge_to_submit, submit
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.release.proposal import Proposal, ProposalStatus
from toy_data import toy_params


@pytest.fixture
def work(tmp_path):
    """A repository with a local forge, an empty manifest on main, and a proposal in the work tree."""
    forge = ForgeWithButtons.create(tmp_path / "forge")
    git = Git.init(tmp_path / "work")
    git.run("remote", "add", "origin", forge.url)
    (git.folder / "deploy").mkdir()
    manifest = git.folder / "deploy" / "manifest.yaml"
    manifest.write_text(empty_manifest("orders"))
    (git.folder / "params.yaml").write_text("a: 1\n")
    git.commit("Start", ".")
    git.push("origin", "main", expected=None)
    manifest.write_text(promote(manifest.read_text(), release(1)))
    (git.folder / "params.yaml").write_text("a: 2\n")
    return git


def hand_in(git):
    return submit(git.folder, toy_params(), Proposal(ProposalStatus.PROPOSED, release(1).digest, 1))


def committed(git, revision="HEAD"):
    return set(git.run("diff", "--name-only", "main", revision).splitlines())


def test_a_proposal_on_main_gets_a_branch_of_its_own(work):
    pull = hand_in(work)
    assert pull.branch.startswith("propose/orders-")
    assert work.branch() == pull.branch
    assert committed(work) == {"deploy/manifest.yaml", "params.yaml"}


def test_staged_changes_are_committed_too_and_a_staged_stranger_is_part_of_them(work):
    work.run("add", "params.yaml")
    hand_in(work)
    assert "params.yaml" in committed(work)
    assert work.changed() == ()


def test_what_is_untracked_and_no_part_of_the_proposal_stays_out(work):
    (work.folder / "deploy" / "signing.key").write_text("secret")
    (work.folder / "notes.txt").write_text("mine")
    hand_in(work)
    assert committed(work) == {"deploy/manifest.yaml", "params.yaml"}


def test_the_same_again_updates_the_one_pull_request(work):
    first = hand_in(work)
    assert hand_in(work).number == first.number
    assert len(open_forge(work).list_open()) == 1


def test_a_colleagues_commit_on_the_branch_is_never_overwritten(work, tmp_path):
    pull = hand_in(work)
    other = Git.clone(ForgeWithButtons(tmp_path / "forge").url, tmp_path / "other")
    other.switch(pull.branch, start=f"origin/{pull.branch}")
    (other.folder / "README.md").write_text("a colleague's")
    theirs = other.commit("Read me", "README.md")
    other.push("origin", pull.branch, expected=other.remote_head("origin", pull.branch))
    (work.folder / "params.yaml").write_text("a: 3\n")
    with pytest.raises(ForgeError, match="commits that are not in your branch"):
        hand_in(work)
    assert work.remote_head("origin", pull.branch) == theirs


@pytest.mark.usefixtures("known_to_git")
def test_a_merge_that_is_under_way_is_told_before_anything_is_trained(work):
    work.commit("Mine", ".")
    work.switch("other", start="HEAD~1")
    (work.folder / "notes.txt").write_text("theirs")
    work.commit("Theirs", "notes.txt")
    work.run("merge", "--quiet", "--no-commit", "main")
    with pytest.raises(ForgeError, match="(?s)a merge is under way.*git commit"):
        open_forge_to_submit(work)
    with pytest.raises(ForgeError, match="(?s)partial commit during a merge.*end it first"):
        work.commit("Some of it", "params.yaml")
    work.run("merge", "--abort")
    assert open_forge_to_submit(work).list_open() == ()


def test_a_remote_without_a_forge_is_told(work):
    work.run("remote", "set-url", "origin", "https://example.invalid/a/b.git")
    with pytest.raises(ForgeError, match="no forge is known"):
        open_forge(work)
