"""`make demo`: the whole loop on real flights, in a scratch clone under demo/.

Reproduces the champion, proposes a worse model and a better one, merges, serves, and predicts July's
flights, which the repository does not hold. Nothing outside demo/ is touched.
"""

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
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from rich.console import Console

from mergeline.forge.git import Git
from mergeline.forge.local import LocalForge
from mergeline.model.artifact import folder_digest
from mergeline.model.store import Store
from mergeline.release.manifest import Release, read_manifest

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
WORK = DEMO / "flights"
SERVER_START_SECONDS = 60
STARTED = time.monotonic()
console = Console(highlight=False)


def main() -> None:
    """Run the loop, and leave nothing running however it ends."""
    try:
        forge = make_clone()
        reproduce_champion()
        propose_worse()
        number, reviewed = propose_better(forge)
        merge(forge, number)
        with ThreadPoolExecutor(1) as background:
            year = background.submit(flights_of_the_year)
            with server() as url:
                predict(url, reviewed, year)
    except KeyboardInterrupt:
        give_up("stopped; nothing is left running", code=130)
    console.print(f"\n[bold green]The loop is closed[/] in {time.monotonic() - STARTED:.0f} s. What to look at now:")
    for line in (
        f"the report of the merged model   {shown(WORK / 'report' / 'report.html')}",
        f"the pull request, as files       {shown(forge.folder / 'pulls' / str(number))}",
        f"production's history             git -C {shown(WORK)} log -p --first-parent deploy/manifest.yaml",
        "serve your own clone             make serve",
        "your turn                        edit params.yaml, then: .tools/bin/uv run mergeline propose",
    ):
        console.print(f"  {line}", soft_wrap=True)


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


def reproduce_champion() -> None:
    """Make the champion again from its data, and compare digests."""
    stable = released()
    step(f"reproduce the champion, version {stable.version}, from its data")
    run("dvc", "pull", "--quiet")
    note("pulled data and results from the store; now training from the data, as `dvc repro --force train` would")
    shutil.rmtree(WORK / "model")
    run("mergeline", "train")
    if folder_digest(WORK / "model") != stable.digest:
        give_up(
            f"the champion came out as {folder_digest(WORK / 'model')}, the manifest says {stable.digest}",
            "this processor family or these libraries make other bytes: commit `mergeline propose` from here first",
        )
    good(f"the same bytes as in the manifest: {stable.digest}")


def propose_worse() -> None:
    """A model that learns too fast: the gate must refuse it."""
    step("propose a worse model: model.arguments.learning_rate 0.1 → 1.0")
    set_param("learning_rate", "1.0")
    code = run("mergeline", "propose", "--pull-request", check=False)
    if code != 3:
        give_up(f"the gate should have rejected it (exit code 3), but ended with {code}")
    if released(WORK).version != 1 or Git(WORK).branch() != "main":
        give_up("a rejected model changed something")
    good("rejected, and nothing but the report was written")
    Git(WORK).run("checkout", "--quiet", "--", "params.yaml")


def propose_better(forge: LocalForge) -> tuple[int, str]:
    """A model that learns longer; returns the pull request's number and the digest that was reviewed."""
    step("propose a better model: model.arguments.max_iter 30 → 100")
    set_param("max_iter", "100")
    run("mergeline", "propose", "--pull-request")
    pulls = forge.list_open()
    reviewed = released(WORK).digest
    note("what a reviewer sees of the manifest:")
    difference = Git(WORK).run("diff", "--stat", "main", "--", "deploy/manifest.yaml").splitlines()[-1].strip()
    note(f"  {difference}; digest {reviewed}")
    good(f"pull request #{pulls[0].number}: {pulls[0].title}")
    return pulls[0].number, reviewed


def merge(forge: LocalForge, number: int) -> None:
    """Merge: the manifest on main is what production serves."""
    step(f"merge pull request #{number}: the merge is the release")
    forge.merge(number)
    git = Git(WORK)
    git.switch("main")
    git.run("pull", "--quiet", "--ff-only")
    run("mergeline", "verify")
    good(f"main now says version {released(WORK).version}")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The server, in a process group of its own that is ended with the block."""
    step("serve what main says")
    log = DEMO / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [tool("mergeline"), "serve", "--port", "0"],
            cwd=WORK,
            env=environment(),
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


def flights_of_the_year() -> pd.DataFrame:
    """All flights of 2013, from their package."""
    from build_flights import build_year, source_folder

    return build_year(source_folder())


def predict(url: str, reviewed: str, flights_of_year: Future[pd.DataFrame]) -> None:
    """Ask about real flights of July, and compare the digest that answers with the one that was reviewed."""
    step("predict flights of 1 July 2013, none of which the repository holds")
    year = flights_of_year.result()
    july = year[(year["scheduled_at"] >= "2013-07-01") & (year["scheduled_at"] < "2013-07-02")]
    flights = july.iloc[:: len(july) // 6].head(6)
    records = json.loads(flights.drop(columns="late").to_json(orient="records", date_format="iso"))
    answers = post(f"{url}/predict", records)
    for answer, late in zip(answers, flights["late"], strict=True):
        word = "late   " if answer["label"] else "in time"
        note(f"  {answer['id']:<22} {answer['score']:.3f} → {word}  (was {'late' if late else 'in time'})")
    everything = json.loads(july.drop(columns="late").to_json(orient="records", date_format="iso"))
    scores = pd.Series([answer["score"] for answer in post(f"{url}/predict", everything)])
    late = july["late"].reset_index(drop=True)
    likeliest = late[scores >= scores.quantile(0.9)].mean()
    note(f"  of all {len(july)} flights that day {late.mean():.0%} were late; of the likeliest tenth {likeliest:.0%}")
    digests = {answer["digest"] for answer in answers}
    if digests != {reviewed} or folder_from_store() != reviewed:
        give_up(f"answered by {digests}, reviewed was {reviewed}")
    good(f"reviewed = merged = stored = served: {reviewed}")


def folder_from_store() -> str:
    """The digest of the model folder that the manifest's object holds."""
    folder = DEMO / "fetched"
    Store(str(WORK / "store")).fetch_folder(released(WORK).source, folder)
    return folder_digest(folder)


def released(root: Path = WORK) -> Release:
    """What the manifest serves."""
    stable = read_manifest(root / "deploy" / "manifest.yaml").spec.stable
    if stable is None:
        give_up("the manifest names no model", "release one first: mergeline propose, commit, and run the demo again")
    return stable


def set_param(key: str, value: str) -> None:
    """Edit one number of params.yaml, as a person would."""
    path = WORK / "params.yaml"
    path.write_text(re.sub(rf"(?m)^( +{key}: )\S+", rf"\g<1>{value}", path.read_text()))


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


if __name__ == "__main__":
    main()
