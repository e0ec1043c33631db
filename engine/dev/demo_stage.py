"""The stage of `make demo`: a scratch clone under demo/, a forge for its pull requests, and its tools."""

from __future__ import annotations

import re
import shutil
import subprocess

from demo_server import environment, tool
from demo_words import ROOT, give_up, note, shown, step
from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git

DEMO = ROOT / "demo"
WORK = DEMO / "flights"


def make_clone() -> ForgeWithButtons:
    """A scratch clone whose remote is a local forge."""
    step("a scratch clone, and a forge for its pull requests")
    if not (ROOT / ".git").exists():
        give_up(
            "this folder is not a git clone", "clone the repository, or: git init && git add -A && git commit -m start"
        )
    shutil.rmtree(DEMO, ignore_errors=True)
    forge = ForgeWithButtons.create(DEMO / "forge")
    Git(ROOT).run("push", "--quiet", forge.url, "HEAD:refs/heads/main")
    work = Git.clone(forge.url, WORK)
    if Git(ROOT).changed():
        note("your uncommitted changes stay out of it: the demo runs your last commit")
    note(f"{shown(WORK)} at {work.run('rev-parse', '--short', 'HEAD')}; remote {shown(forge.git.folder)}")
    return forge


def merge(forge: ForgeWithButtons, number: int) -> None:
    """Merge a pull request, and bring main here: the manifest on main is what production serves."""
    forge.merge(number)
    git = Git(WORK)
    git.switch("main")
    git.run("pull", "--quiet", "--ff-only")
    run("dvc", "pull", "--quiet")


def verify() -> None:
    """Check that manifest, store, lineage and scorers on main agree."""
    told = subprocess.run(
        [tool("mergeline"), "verify"], cwd=WORK, env=environment(WORK), capture_output=True, text=True, check=False
    )
    if told.returncode:
        give_up(f"main does not verify:\n{told.stdout}{told.stderr}")
    note(f"mergeline verify: {len(re.findall('(?m)^pass', told.stdout))} checks pass")


def run(*command: str, check: bool = True) -> int:
    """Run a tool in the clone, its words on the terminal."""
    code = subprocess.run([tool(command[0]), *command[1:]], cwd=WORK, env=environment(WORK), check=False).returncode
    if check and code:
        give_up(f"{' '.join(command)} ended with code {code}, see above")
    return code
