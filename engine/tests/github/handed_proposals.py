"""A repository with one released model and a pull request, and proposals as a branch's own code could hand them over.

Nothing is trained: a model is three small files, and what the pipeline would have made is written by hand.
"""

import hashlib
import json
import os
from pathlib import Path

import yaml
from release_examples import model_folder, params, stored_release

from mergeline.ci.apply import apply
from mergeline.ci.bundle import HandedState, Handover, write_proposal
from mergeline.evaluate.results import GateOutcome, GateVerdict, Holdout
from mergeline.github.git import Git
from mergeline.github.local_forge import LocalForge
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import Evidence, Lineage, read_manifest
from mergeline.manifest.transitions import AT_ONCE, version_for
from mergeline.model.artifact import folder_digest
from mergeline.release.proposal import verdict_digest

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


def verdict_of(digest, *, accepted=True):
    return GateVerdict(
        accepted=accepted,
        outcome=GateOutcome.BETTER if accepted else GateOutcome.WORSE,
        headline="Better by far.",
        checks=(),
        comparison=None,
        challenger_digest=digest,
        holdout=Holdout(digest="sha256:" + "1" * 64, partitions=("2013-03",), rows=40, first=None, last=None),
    )


class Scene:
    """A forge, a clone of a person's, and a clone in which proposals are applied, as a job would."""

    def __init__(self, folder: Path, store: str = "../store") -> None:
        self.folder = folder
        self.forge = LocalForge.create(folder / "forge")
        self.person = Git.init(folder / "person")
        self.person.run("remote", "add", "origin", self.forge.url)
        root = self.person.folder
        model_folder(folder / "models" / "1", 1)
        self.store = Path(os.path.normpath(root / ".dvc" / store))
        first = stored_release(self.store, folder / "models" / "1", 1)
        self.write("dvc.lock", lock_text(first.source))
        self.write("deploy/manifest.yaml", promote(empty_manifest("flights"), first))
        self.write("dvc.yaml", PIPELINE)
        self.write("code.py", "1")
        self.write("params.yaml", yaml.safe_dump(params().model_dump(mode="json", by_alias=True)))
        self.write(".dvc/config", f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n")
        self.person.run("add", "--all")
        self.person.commit("Start", ".")
        self.person.push("origin", "main", expected=None)
        self.root = Git.clone(self.forge.url, folder / "job").folder
        self.git = Git(self.root)
        self.made = folder / "proposal"

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
        self.person.push("origin", branch, expected=self.person.remote_head("origin", branch))
        return commit

    def pull(self, branch="change", text="model: 2"):
        """A pull request of a branch that changes a file that the model depends on."""
        self.commit(branch, "code.py", text, start="origin/main")
        return self.forge.open_or_update(branch, "main", f"Change by {branch}", "words")

    def main(self):
        """The base branch's newest commit."""
        return self.person.remote_head("origin", "main")

    def manifest(self, revision):
        """The manifest at a commit of the forge."""
        path = self.folder / "seen.yaml"
        path.write_text(self.forge.git.show(revision, "deploy/manifest.yaml"))
        return read_manifest(path)

    def base_text(self):
        return self.forge.git.show("main", "deploy/manifest.yaml")

    def hand_over(
        self,
        pull,
        seed=2,
        *,
        change=None,
        evidence=None,
        headline_of_verdict="",
        rollout=AT_ONCE,
        folder=None,
        lineage=None,
        **told,
    ):
        """Write the proposal that the branch of `pull` would make: the model `seed`.

        `change` edits the text of the manifest, `evidence` the release's; `told` goes into proposal.json.
        `rollout` is how it takes over. A `folder` is the model's
        in place of the seed's, with its own `lineage`.
        `headline_of_verdict` makes the verdict another one, as a latency that is measured again does.
        """
        head = told.get("head") or (pull.head if pull else self.main())
        folder = folder or self.folder / "models" / str(seed)
        if not folder.exists():
            model_folder(folder, seed)
        objects = self.folder / "objects" / folder.name
        version = version_for(self.manifest("main"), folder_digest(folder))
        release = stored_release(objects, folder, version)
        if lineage is not None:
            made_from = {name: getattr(lineage, name) for name in Lineage.model_fields}
            release = release.model_copy(update={"lineage": Lineage(**made_from)})
        verdict = verdict_of(release.digest)
        if headline_of_verdict:
            verdict = verdict.model_copy(update={"headline": headline_of_verdict})
        number = pull.number if pull else None
        shown = Evidence(pull=number, metrics={"roc_auc": 0.8}, gate=verdict_digest(verdict))
        release = release.model_copy(update={"evidence": shown.model_copy(update=evidence or {})})
        text = promote(self.base_text(), release, rollout)
        files = {
            "report.html": b"<p>good</p>",
            "verdict.json": verdict.model_dump_json().encode(),
            "files/dvc.lock": lock_text(release.source).encode(),
            "files/deploy/manifest.yaml": (change(text) if change else text).encode(),
        }
        for path in objects.rglob("*"):
            if path.is_file():
                files[f"objects/{path.relative_to(objects).as_posix()}"] = path
        values = {
            "name": "flights",
            "state": HandedState.PROPOSED,
            "pull": number,
            "head": head,
            "base": self.main(),
            "version": version,
            "digest": release.digest,
        }
        write_proposal(self.made, Handover(**(values | told)), report="## Good\n", files=files)
        return release

    def apply(self, pull=None, *, branch="", head=None, root=None):
        """Apply the proposal in a fresh view of the forge, as a job does."""
        git = Git(root or self.root)
        git.fetch("origin")
        git.run("reset", "--quiet", "--hard", "origin/main")
        number = pull.number if pull else None
        return apply(
            git.folder, self.made, head=head or (pull.head if pull else self.main()), pull=number, branch=branch
        )

    def replace(self, name, content):
        """Replace a file of the proposal's folder by hand."""
        path = self.made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def refs(self):
        """Every branch of the forge, and its commit: what a refused proposal must leave alone."""
        return self.forge.git.run("for-each-ref", "--format=%(refname) %(objectname)")

    def rewrite_lock(self, change):
        """Edit the handed lock as a tree."""
        tree = yaml.safe_load((self.made / "files/dvc.lock").read_text())
        change(tree)
        self.replace("files/dvc.lock", yaml.safe_dump(tree, sort_keys=False))

    def retell(self, **values):
        """Edit proposal.json."""
        told = json.loads((self.made / "proposal.json").read_text())
        self.replace("proposal.json", json.dumps(told | values))


def put_object(folder, content, suffix=""):
    """Put bytes under the name that they have in a store; returns the name."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    name = f"files/md5/{md5[:2]}/{md5[2:]}{suffix}"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return name
