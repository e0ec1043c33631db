"""A repository with one released model and a pull request, and bundles as a branch's own code could write them.

Nothing is trained: a model is three small files, and what the pipeline would have made is written by hand.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import yaml
from release_examples import model_folder, params, stored_release

from forge_with_buttons import ForgeWithButtons
from mergeline.ci.apply import apply
from mergeline.ci.bundle import ProposalSummary, write_bundle
from mergeline.evaluate.results import Comparison, Estimate, GateOutcome, GateVerdict, Holdout, PairedMetric
from mergeline.github.git import Git
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import Evidence, Lineage, read_manifest
from mergeline.manifest.transitions import version_for
from mergeline.model.artifact import folder_digest
from mergeline.release.proposal import ProposalStatus, verdict_digest

PIPELINE = """
stages:
  train: {cmd: train, deps: [code.py], params: [model], outs: [model]}
"""


def lock_text(source, stage="train"):
    md5 = "".join(source.split("/")[-2:])
    output = {"path": "model", "hash": "md5", "md5": md5, "size": 9, "nfiles": 3}
    dependency = {"path": "code.py", "hash": "md5", "md5": "0" * 32, "size": 1}
    stages = {stage: {"cmd": "train", "deps": [dependency], "outs": [output]}}
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


def verdict_of(digest, *, accepted=True, champion=None):
    """A verdict on a model; `champion` is the digest of the one that it was compared with, on `roc_auc`."""
    outcome = GateOutcome.BETTER if accepted else GateOutcome.WORSE
    if champion is None and accepted:
        outcome = GateOutcome.NO_CHAMPION
    seen = {name: Estimate(value=value) for name, value in (("champion", 0.75), ("challenger", 0.8), ("gain", 0.05))}
    paired = PairedMetric(name="roc_auc", higher_is_better=True, **seen)
    compared = {"champion_version": 1, "outcome": outcome, "metrics": (paired,), "slices": (), "delong": None}
    return GateVerdict(
        accepted=accepted,
        outcome=outcome,
        headline="Better by far.",
        checks=(),
        comparison=Comparison(champion_digest=champion, **compared) if champion else None,
        challenger_digest=digest,
        holdout=Holdout(digest="sha256:" + "1" * 64, partitions=("2013-03",), rows=40, first=None, last=None),
    )


class Scene:
    """A forge, a clone of a person's, and a clone in which proposals are applied, as a job would.

    Args:
        folder: where; what `Scene.make` has made there is taken as it is.
        store: the DVC remote, from `.dvc/config`.
    """

    def __init__(self, folder: Path, store: str = "../store") -> None:
        self.folder, self.made = folder, folder / "proposal"
        if not (folder / "job").exists():
            self._make(store)
        self.forge = ForgeWithButtons(folder / "forge")
        self.person, self.git = Git(folder / "person"), Git(folder / "job")
        self.root = self.git.folder
        self.store = Path(os.path.normpath(self.person.folder / ".dvc" / store))

    def _make(self, store):
        forge = ForgeWithButtons.create(self.folder / "forge")
        self.person = Git.init(self.folder / "person")
        self.person.run("remote", "add", "origin", forge.url)
        model_folder(self.folder / "models" / "1", 1)
        stored = Path(os.path.normpath(self.person.folder / ".dvc" / store))
        first = stored_release(stored, self.folder / "models" / "1", 1)
        self.write("dvc.lock", lock_text(first.source))
        self.write("deploy/manifest.yaml", promote(empty_manifest("flights"), first))
        self.write("dvc.yaml", PIPELINE)
        self.write("code.py", "1")
        self.write("params.yaml", yaml.safe_dump(params().model_dump(mode="json", by_alias=True)))
        self.write(".dvc/config", f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n")
        self.person.run("add", "--all")
        self.person.commit("Start", ".")
        self.person.push("origin", "main", expected=None)
        Git.clone(forge.url, self.folder / "job")

    def copy(self, folder: Path) -> "Scene":
        """The same in another folder, for a test that changes it: a copy takes a tenth of the time."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, symlinks=True)
        for clone in ("person", "job"):
            config = folder / clone / ".git" / "config"
            config.write_text(config.read_text().replace(str(self.folder), str(folder)))
        return Scene(folder)

    def write(self, name, text):
        """Write a file of the person's clone."""
        path = self.person.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, branch, name="notes.txt", text="mine", start=None):
        """A person's commit of one file on a branch, pushed; `start` makes the branch new there."""
        self.person.fetch("origin")
        self.person.run("switch", "--quiet", *(["--force-create", branch, start] if start else [branch]))
        if start is None:
            self.person.run("reset", "--quiet", "--hard", f"origin/{branch}")
        self.write(name, text)
        commit = self.person.commit(f"Change {name}", name)
        self.person.push("origin", branch, expected=self.person.find(f"refs/remotes/origin/{branch}"))
        return commit

    def pull(self, branch="change", text="model: 2"):
        """A pull request of a branch that changes a file that the model depends on."""
        self.commit(branch, "code.py", text, start="origin/main")
        return self.forge.open_or_update(branch, "main", f"Change by {branch}", "words")

    def main(self):
        """The base branch's newest commit."""
        return self.forge.git.find("main")

    def manifest(self, revision):
        """The manifest at a commit of the forge."""
        path = self.folder / "seen.yaml"
        path.write_text(self.forge.git.show(revision, "deploy/manifest.yaml"))
        return read_manifest(path)

    def base_text(self):
        return self.forge.git.show("main", "deploy/manifest.yaml")

    def bundle(self, pull, seed=2, *, headline_of_verdict="", folder=None, lineage=None, **summary):
        """Write the bundle that the branch of `pull` would make, or main where there is none: of the model `seed`.

        A `folder` is the model's in place of the seed's, with its own `lineage`. `headline_of_verdict` makes the
        verdict another one, as a latency that is measured again does. `summary` goes into proposal.json.

        Returns:
            The release that it leads to.
        """
        head = summary.get("head") or (pull.head if pull else self.main())
        folder = folder or self.folder / "models" / str(seed)
        if not folder.exists():
            model_folder(folder, seed)
        objects = self.folder / "objects" / folder.name
        version = version_for(self.manifest("main"), folder_digest(folder))
        release = stored_release(objects, folder, version)
        if lineage is not None:
            made_from = {name: getattr(lineage, name) for name in Lineage.model_fields}
            release = release.model_copy(update={"lineage": Lineage(**made_from)})
        verdict = self.verdict_of(release.digest)
        if headline_of_verdict:
            verdict = verdict.model_copy(update={"headline": headline_of_verdict})
        number = pull.number if pull else None
        evidence = Evidence(pull=number, metrics={"roc_auc": 0.8}, gate=verdict_digest(verdict))
        release = release.model_copy(update={"evidence": evidence})
        files = {
            "report.html": b"<p>good</p>",
            "verdict.json": verdict.model_dump_json().encode(),
            "dvc.lock": lock_text(release.source).encode(),
        }
        for path in objects.rglob("*"):
            if path.is_file():
                files[f"objects/{path.relative_to(objects).as_posix()}"] = path
        values = {
            "name": "flights",
            "state": ProposalStatus.PROPOSED,
            "pull": number,
            "head": head,
            "base": self.main(),
            "version": version,
            "digest": release.digest,
            "metrics": evidence.metrics,
        }
        write_bundle(self.made, ProposalSummary(**(values | summary)), report="## Good\n", files=files)
        return release

    def verdict_of(self, digest):
        """What the gate says of a model beside the one that main serves."""
        stable = self.manifest("main").spec.stable
        return verdict_of(digest, champion=stable.digest if stable else None)

    def keep_model(self, pull):
        """Write the bundle of a branch that makes main's own model."""
        self.bundle(pull, state=ProposalStatus.UNCHANGED)
        shutil.rmtree(self.made / "objects")
        self.replace("dvc.lock", self.forge.git.show("main", "dvc.lock"))

    def apply(self, pull=None, *, branch="", head=None, root=None, fresh=True):
        """Apply the proposal in a fresh view of the forge, as a job does; `fresh` may be false while main stays."""
        git = Git(root or self.root)
        if fresh:
            git.fetch("origin")
            git.run("reset", "--quiet", "--hard", "origin/main")
        number = pull.number if pull else None
        [applied] = apply(
            git.folder, self.made, head=head or (pull.head if pull else self.main()), pull=number, branch=branch
        ).values()
        return applied

    def replace(self, name, content):
        """Replace a file of the proposal's folder by hand."""
        path = self.made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def refs(self):
        """Every branch of the forge, and its commit: what a refused proposal must leave alone."""
        return self.forge.git.run("for-each-ref", "--format=%(refname) %(objectname)")

    def rewrite_lock(self, change):
        """Edit the bundle's lock as a tree."""
        tree = yaml.safe_load((self.made / "dvc.lock").read_text())
        change(tree)
        self.replace("dvc.lock", yaml.safe_dump(tree, sort_keys=False))

    def resummarise(self, **values):
        """Edit proposal.json."""
        summary = json.loads((self.made / "proposal.json").read_text())
        self.replace("proposal.json", json.dumps(summary | values))


def put_object(folder, content, suffix=""):
    """Put bytes under the name that they have in a store; returns the name."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    name = f"files/md5/{md5[:2]}/{md5[2:]}{suffix}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return name


def rejected(scene):
    digest = json.loads((scene.made / "proposal.json").read_text())["digest"]
    scene.replace("verdict.json", verdict_of(digest, accepted=False).model_dump_json())
