"""What the scenes of `make demo` share: the scratch clone, its tools, its server, and how they are told."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from mergeline.forge.git import Git
from mergeline.forge.local import LocalForge
from mergeline.release.manifest import Release, read_manifest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
WORK = DEMO / "flights"
SERVER_START_SECONDS = 60
STARTED = time.monotonic()
console = Console(highlight=False)


def make_clone() -> LocalForge:
    """A scratch clone whose remote is a local forge."""
    step("a scratch clone, and a forge for its pull requests")
    if not (ROOT / ".git").exists():
        give_up(
            "this folder is not a git clone", "clone the repository, or: git init && git add -A && git commit -m start"
        )
    shutil.rmtree(DEMO, ignore_errors=True)
    forge = LocalForge.create(DEMO / "forge")
    Git(ROOT).run("push", "--quiet", forge.url, "HEAD:refs/heads/main")
    work = Git.clone(forge.url, WORK)
    if Git(ROOT).changed():
        note("your uncommitted changes stay out of it: the demo runs your last commit")
    note(f"{shown(WORK)} at {work.run('rev-parse', '--short', 'HEAD')}; remote {shown(forge.git.folder)}")
    return forge


def merge(forge: LocalForge, number: int) -> None:
    """Merge a pull request, bring main here, and verify it: the manifest on main is what production serves."""
    forge.merge(number)
    git = Git(WORK)
    git.switch("main")
    git.run("pull", "--quiet", "--ff-only")
    run("dvc", "pull", "--quiet")
    told = subprocess.run(
        [tool("mergeline"), "verify"], cwd=WORK, env=environment(), capture_output=True, text=True, check=False
    )
    if told.returncode:
        give_up(f"main does not verify:\n{told.stdout}{told.stderr}")
    note(f"mergeline verify: {len(re.findall('(?m)^pass', told.stdout))} checks pass")


@contextlib.contextmanager
def server(**variables: str) -> Iterator[str]:
    """The server, in a process group of its own that is ended with the block; `variables` are of its environment."""
    step("serve what main says")
    log = DEMO / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [tool("mergeline"), "serve", "--port", "0"],
            cwd=WORK,
            env=environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = wait_for_server(process, log)
        good(f"ready at {url}")
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_server(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the server prints once it is ready."""
    deadline = time.monotonic() + SERVER_START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{found[0]}/readyz", timeout=2):
                return found[0]
        time.sleep(0.2)
    return give_up(f"the server did not start; its last words:\n{log.read_text()[-2000:]}")


def released(root: Path = WORK) -> Release:
    """What the manifest serves."""
    stable = read_manifest(root / "deploy" / "manifest.yaml").spec.stable
    if stable is None:
        give_up("the manifest names no model", "release one first: mergeline propose, commit, and run the demo again")
    return stable


def post(url: str, body: Any) -> Any:
    """Send JSON, get JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def run(*command: str, check: bool = True) -> int:
    """Run a tool in the clone, its words on the terminal."""
    code = subprocess.run([tool(command[0]), *command[1:]], cwd=WORK, env=environment(), check=False).returncode
    if check and code:
        give_up(f"{' '.join(command)} ended with code {code}, see above")
    return code


def tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


def environment() -> dict[str, str]:
    """The clone's own code first, and no telemetry."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(WORK / "src"), "DVC_NO_ANALYTICS": "1"}


def step(title: str) -> None:
    """Begin a step, and say how far into the demo it is."""
    console.print(f"\n[bold cyan]▸ {title}[/] [dim]({time.monotonic() - STARTED:.0f} s)[/]", soft_wrap=True)


def note(line: str) -> None:
    """A detail."""
    console.print(f"  {line}", soft_wrap=True, style="dim")


def good(line: str) -> None:
    """What a step has shown."""
    console.print(f"  [green]✓[/] {line}", soft_wrap=True)


def shown(path: Path) -> str:
    """The path as a person at the root would type it."""
    return str(path.relative_to(ROOT))


def give_up(what: str, mend: str = "", code: int = 1) -> NoReturn:
    """End the demo with a reason."""
    console.print(f"\n[bold red]demo:[/] {what}" + (f"\n  mend: {mend}" if mend else ""), soft_wrap=True)
    sys.exit(code)
