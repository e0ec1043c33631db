"""A proposal that was made to deceive is refused, and nothing of it is written."""

import json
import os
import pickle
import shutil
import time

import pytest
from bundle_examples import lock_text, put_object, rejected, verdict_of
from release_examples import model_folder, push

from mergeline.ci.bundle import ApplyOutcome
from mergeline.ci.required_check import Event
from mergeline.ci.required_check_run import Run, look
from mergeline.files import pack_zip
from mergeline.manifest.transitions import Change
from mergeline.model.artifact import folder_digest


def link(scene):
    (scene.made / "report.md").unlink()
    (scene.made / "report.md").symlink_to("/etc/passwd")


def linked_folder(scene):
    (scene.made / "objects").rename(scene.folder / "moved")
    (scene.made / "objects").symlink_to(scene.folder / "moved")


def pipe(scene):
    (scene.made / "model-card.md").unlink(missing_ok=True)
    os.mkfifo(scene.made / "model-card.md")


def many(scene):
    for number in range(10_000):
        name = f"objects/files/md5/{number % 256:02x}/{number:030x}"
        (scene.made / name).parent.mkdir(parents=True, exist_ok=True)
        (scene.made / name).touch()


def many_folders(scene):
    for number in range(5_000):
        (scene.made / "objects/files/md5" / f"{number % 256:02x}" / f"{number:030x}").mkdir(parents=True)


def huge(scene):
    with (scene.made / "objects/files/md5/00" / ("0" * 30)).open("wb") as stream:
        stream.truncate(2 * 2**30)


def listing(*paths, md5="d41d8cd98f00b204e9800998ecf8427e"):
    def change(scene):
        entries = [{"relpath": path, "md5": md5} for path in paths]
        source = put_object(scene.made / "objects", json.dumps(entries).encode(), ".dir")
        scene.replace("dvc.lock", lock_text(source))

    return change


def write(name, content):
    return lambda scene: scene.replace(name, content)


def bomb(scene):
    levels = "".join(f"b{n}: &b{n} [{', '.join([f'*b{n - 1}'] * 9)}]\n" for n in range(1, 12))
    scene.replace("dvc.lock", f"b0: &b0 [x]\n{levels}stages: {{}}\n")


def wrong_bytes(scene):
    name = next(path for path in (scene.made / "objects/files").rglob("*") if path.is_file())
    name.chmod(0o644)
    name.write_bytes(b"others")


def missing(scene):
    for path in (scene.made / "objects").rglob("*"):
        if path.is_file() and not path.name.endswith(".dir"):
            path.unlink()
            return


def tampered(scene):
    """Another model in place of the judged one: its objects are all there, and are what their names say."""
    shutil.rmtree(scene.made / "objects")
    source = push(scene.made / "objects", model_folder(scene.folder / "models" / f"other-{time.monotonic_ns()}", 99))
    scene.replace("dvc.lock", lock_text(source))


def forged(change):
    """A model that the gate is said to have accepted, with what `change` does to its folder."""

    def spoil(scene):
        folder = model_folder(scene.folder / "models" / f"forged-{time.monotonic_ns()}", 55)
        change(folder)
        shutil.rmtree(scene.made / "objects")
        scene.replace("dvc.lock", lock_text(push(scene.made / "objects", folder)))
        scene.replace("verdict.json", scene.verdict_of(folder_digest(folder)).model_dump_json())

    return spoil


def names_a_system_call(folder):
    node = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "protocol": 2}
    (folder / "model.skops").write_bytes(pack_zip({"schema.json": json.dumps(node).encode()}))


def is_of_another_project(folder):
    signature = json.loads((folder / "signature.json").read_text())
    (folder / "signature.json").write_text(json.dumps(signature | {"name": "shop"}))


def labels_everything(folder):
    signature = json.loads((folder / "signature.json").read_text())
    signature["output"]["threshold"] = 0
    (folder / "signature.json").write_text(json.dumps(signature))


def foreign_object(scene):
    put_object(scene.made / "objects", b"nobody asked for this")


def serving(scene):
    scene.bundle(scene.forge.get(1), 1)
    shutil.rmtree(scene.made / "objects")


HOSTILE = {
    "a link": (link, "neither a file nor a folder"),
    "a linked folder": (linked_folder, "neither a file nor a folder"),
    "a pipe": (pipe, "neither a file nor a folder"),
    "10,000 files": (many, "more than 4,000 files and folders"),
    "folders without end": (many_folders, "no such folder"),
    "a file of 2 GB": (huge, "too many: at most"),
    "a report of a million characters": (write("report.md", "x" * 1_000_000), "too many: at most"),
    "a report that is no text": (write("report.md", b"\xff\xfe\x00"), "not UTF-8"),
    "a workflow": (write(".github/workflows/model.yml", "on: push"), "no such folder"),
    "a manifest of its own": (write("deploy/manifest.yaml", "a: 1"), "no such folder"),
    "a file above the tree": (write("..manifest.yaml", "x"), "no such file"),
    "an entry of the run-cache": (write(f"objects/runs/{'a' * 2}/{'a' * 64}/{'b' * 64}", "cmd: x"), "no such folder"),
    "an object with another name": (write("objects/files/md5/zz/x", "x"), "no such folder"),
    "no proposal.json": (lambda scene: (scene.made / "proposal.json").unlink(), "there is no proposal.json"),
    "a proposal.json that nests": (write("proposal.json", "[" * 60_000), "not a proposal"),
    "a proposal.json of another kind": (write("proposal.json", '{"format": 2}'), "not a proposal"),
    "a model folder with ..": (listing("../../evil"), "the listing names"),
    "a model folder with a root": (listing("/etc/cron.d/evil"), "the listing names"),
    "a listing with a path for an md5": (listing("a", md5="../../../../../../etc/passwd"), "the listing names"),
    "a listing with one path twice": (listing("a/b", "a/./b"), "the listing names"),
    "a listing with a file that is a folder too": (listing("a", "a/b/c"), "as a file and as a folder"),
    "a listing with a path that ends early": (listing("a\0b"), "the listing names"),
    "a listing with a path in no script": (listing("\ud800"), "not a list of files"),
    "a listing with a name without end": (listing("a" * 300), "the listing names"),
    "a lock that is no YAML": (write("dvc.lock", "stages: ["), "not valid YAML"),
    "a lock that unfolds": (bomb, "aliases"),
    "a lock that nests": (write("dvc.lock", "stages: " + "[" * 5000), "more than 40 levels"),
    "a lock with a stage that nobody has": (
        lambda scene: scene.rewrite_lock(lambda tree: tree["stages"].update(deploy={"cmd": "x"})),
        "has no stage 'deploy'",
    ),
    "a lock whose stage ran another command": (
        lambda scene: scene.rewrite_lock(lambda tree: tree["stages"]["train"].update(cmd="train --fast")),
        "ran another command",
    ),
    "a lock that points to nowhere": (missing, "nowhere"),
    "bytes that are not what their name says": (wrong_bytes, "its name promises"),
    "a tampered model": (tampered, "has not accepted this model"),
    "a model that names a system call": (forged(names_a_system_call), "types that are not trusted: os.system"),
    "a pickle": (
        forged(lambda folder: (folder / "model.skops").write_bytes(pickle.dumps({}))),
        "not a pipeline that skops stores",
    ),
    "a model of another project": (forged(is_of_another_project), "signature of 'shop', not of 'flights'"),
    "a model that labels everything": (forged(labels_everything), "threshold is 0.0"),
    "a model with an odd file": (
        forged(lambda folder: (folder / "sitecustomize.py").write_text("1")),
        "no model has a file 'sitecustomize.py'",
    ),
    "a model with random trees": (
        forged(lambda folder: (folder / "scorer.onnx").write_bytes(b"x" * 99)),
        "parts of a scorer, and no scorer",
    ),
    "an object that no lock names": (foreign_object, "does not name this object"),
    "a lock without a model": (
        lambda scene: scene.rewrite_lock(lambda tree: tree["stages"]["train"]["outs"].clear()),
        "does not name this object",
    ),
    "a metric that is no number": (lambda scene: scene.resummarise(metrics={"roc_auc": "NaN"}), "metrics.roc_auc"),
    "a metric with a name of many lines": (lambda scene: scene.resummarise(metrics={"a\nb: c": 1.0}), "metrics"),
    "the proposal of the model that serves": (serving, "has this model already"),
    "a verdict against it": (rejected, "has not accepted"),
    "a verdict on another model": (
        write("verdict.json", verdict_of("sha256:" + "9" * 64).model_dump_json()),
        "has not accepted",
    ),
    "a verdict that is none": (write("verdict.json", "[]"), "not the gate's verdict"),
    "no verdict": (lambda scene: (scene.made / "verdict.json").unlink(), "there is no verdict.json"),
    "another pull request's number": (lambda scene: scene.resummarise(pull=9), "made for pull request 9"),
    "another commit": (lambda scene: scene.resummarise(head="a" * 40), "made for commit"),
    "another name": (lambda scene: scene.resummarise(name="shop"), "a proposal of shop"),
    "a base that is nowhere": (lambda scene: scene.resummarise(base="b" * 40), "no commit of main"),
    "a state that does not fit": (lambda scene: scene.resummarise(state="unchanged"), "dvc.lock names the model"),
}


class TestHostile:
    @pytest.fixture(scope="class")
    def target(self, made_scene, tmp_path_factory):
        """One scene for all: whatever is refused leaves it as it was."""
        scene = made_scene.copy(tmp_path_factory.mktemp("hostile") / "scene")
        scene.bundle(scene.pull())
        shutil.copytree(scene.made, scene.folder / "sound")
        scene.before = scene.refs(), scene.git.run("status", "--porcelain")
        return scene

    @pytest.mark.parametrize("kind", HOSTILE)
    def test_it_is_refused_with_a_reason_and_nothing_is_written(self, target, kind):
        spoil, reason = HOSTILE[kind]
        shutil.rmtree(target.made, ignore_errors=True)
        shutil.copytree(target.folder / "sound", target.made)
        (target.made / "objects/files/md5/00").mkdir(parents=True, exist_ok=True)
        spoil(target)
        start = time.monotonic()
        applied = target.apply(target.forge.get(1), fresh=False)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert reason in f"{applied.error.where}: {applied.error.what}"
        assert (target.refs(), target.git.run("status", "--porcelain")) == target.before
        assert time.monotonic() - start < 20

    def test_a_sound_proposal_is_taken(self, scene, pull):
        scene.bundle(pull)
        assert scene.apply(pull).outcome is ApplyOutcome.APPLIED

    def test_a_model_under_a_hold_is_refused(self, scene, pull):
        release = scene.bundle(pull)
        held = scene.base_text().replace("holds: []", f"holds: [{{digest: {release.digest}, reason: it lost money}}]")
        scene.commit("main", "deploy/manifest.yaml", held)
        scene.resummarise(base=scene.main())
        applied = scene.apply(pull)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert "it lost money" in applied.error.what

    def test_words_in_the_folder_do_not_reach_the_commit(self, scene, pull):
        scene.bundle(pull, headline="[skip ci]\n\nCo-authored-by: me <a@b>")
        applied = scene.apply(pull)
        assert "skip ci" not in scene.forge.git.run("log", "-1", "--format=%B", applied.commit)

    @pytest.fixture
    def shop(self, scene, pull):
        """A pull request that brings a second model's home, and the first model's bundle."""
        scene.commit("change", "models/shop/dvc.yaml", scene.forge.git.show("main", "dvc.yaml"))
        own = (scene.person.folder / "params.yaml").read_text()
        scene.commit("change", "models/shop/params.yaml", own.replace("name: flights", "name: shop"))
        pull = scene.forge.get(pull.number)
        scene.bundle(pull)
        scene.made.rename(scene.folder / "made")
        return pull

    @staticmethod
    def lay(scene, model, **claim):
        """Lay the bundle out as that of a model which has no champion."""
        shutil.copytree(scene.folder / "made", scene.made / model)
        summary = json.loads((scene.made / model / "proposal.json").read_text()) | claim
        (scene.made / model / "proposal.json").write_text(json.dumps(summary))
        (scene.made / model / "verdict.json").write_text(verdict_of(summary["digest"]).model_dump_json())

    @pytest.mark.parametrize(
        ("name", "claim", "reason"),
        [
            ("shop", {}, "a proposal of flights, not of shop"),
            ("shop", {"name": "shop"}, "signature of 'flights', not of 'shop'"),
            ("nobody", {}, "there is no model 'nobody'"),
        ],
    )
    def test_the_bundles_of_two_models_do_not_change_places(self, scene, shop, name, claim, reason):
        before = scene.refs()
        self.lay(scene, name, **claim)
        applied = scene.apply(shop)
        assert applied.outcome is ApplyOutcome.REFUSED
        assert reason in applied.error.what
        assert scene.refs() == before

    def test_a_branch_that_brings_a_home_may_bring_its_first_model(self, scene, shop):
        folder = model_folder(scene.folder / "models" / "shop", 2)
        text = (folder / "signature.json").read_text()
        (folder / "signature.json").write_text(text.replace('"name":"flights"', '"name":"shop"', 1))
        shutil.rmtree(scene.folder / "made")
        scene.bundle(shop, folder=folder)
        scene.made.rename(scene.folder / "made")
        self.lay(scene, "shop", name="shop", version=1)
        applied = scene.apply(shop)
        assert applied.outcome is ApplyOutcome.APPLIED, applied.error
        assert "name: shop" in scene.forge.git.show("change", "models/shop/deploy/manifest.yaml")
        scene.git.fetch("origin", "change")
        run = Run(Event.PULL, applied.commit, "refs/remotes/origin/main", "", fork=False)
        found = look(scene.git, scene.root, run)["shop"]
        assert (found.standing, found.digest) == (Change.OTHER, applied.digest)
        assert (found.unusable, found.unsound) == (None, ())
