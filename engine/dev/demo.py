"""`make demo`: the whole loop on real flights, in a scratch clone under demo/.

A worse model is refused and a better one is merged; it answers July to September, which the repository does not hold;
production drifts, and the retrained model takes over as a canary; a faulty one is taken off, and git says so. Nothing
outside demo/ is touched.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor

import pandas as pd

from demo_production import (
    operate_in_seconds,
    release_a_faulty_model,
    replay_the_summer,
    retrain,
    roll_out,
    watch,
    write_history,
)
from demo_server import DRILL, Production, flights_of_the_year, post, released, server, set_params
from demo_stage import DEMO, WORK, make_clone, merge, run, verify
from demo_words import close_loop, give_up, good, note, shown, step
from forge_with_buttons import ForgeWithButtons
from mergeline.github.git import Git
from mergeline.model.artifact import folder_digest
from mergeline.store.objects import Store


def main() -> None:
    """Run the loop, and leave nothing running however it ends."""
    try:
        with ThreadPoolExecutor(1) as background:
            year = background.submit(flights_of_the_year)
            forge = make_clone()
            reproduce_champion()
            propose_worse()
            number, reviewed = propose_better(forge)
            step(f"merge pull request #{number}: the merge is the release")
            merge(forge, number)
            verify()
            good(f"main now says version {released(WORK).version}")
            operate_in_seconds()
            with server(WORK, **DRILL) as url:
                predict(url, reviewed, year)
                live = Production(url, WORK, year.result())
                replay_the_summer(live)
                watch()
                retraining = retrain(forge)
                roll_out(live, forge)
                release_a_faulty_model(live, forge)
            page = write_history()
            verify()
    except KeyboardInterrupt:
        give_up("stopped; nothing is left running", code=130)
    close_loop(
        f"production's history             {shown(page)}",
        f"the same in git                  git -C {shown(WORK)} log -p --first-parent deploy/manifest.yaml",
        f"what the watch found             {shown(WORK / 'build' / 'watch' / 'watch.html')}",
        f"the report of the last model     {shown(WORK / 'report' / 'report.html')}",
        f"the retraining's pull request    {shown(forge.folder / 'pulls' / str(retraining))}",
        "serve your own clone             make serve",
        "your turn                        edit params.yaml, then: .tools/bin/uv run mergeline propose",
    )


def reproduce_champion() -> None:
    """Make the champion again from its data, and compare digests."""
    stable = released(WORK)
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
    served = released(WORK).digest
    set_params(WORK, learning_rate="1.0")
    code = run("mergeline", "propose", "--pull-request", check=False)
    if code != 3:
        give_up(f"the gate should have rejected it (exit code 3), but ended with {code}")
    if released(WORK).digest != served or Git(WORK).branch() != "main":
        give_up("a rejected model changed something")
    good("rejected, and nothing but the report was written")
    Git(WORK).run("checkout", "--quiet", "--", "params.yaml")


def propose_better(forge: ForgeWithButtons) -> tuple[int, str]:
    """A model that learns longer; returns the pull request's number and the digest that was reviewed."""
    step("propose a better model: model.arguments.max_iter 30 → 100")
    set_params(WORK, max_iter="100")
    run("mergeline", "propose", "--pull-request")
    pulls = forge.list_open()
    reviewed = released(WORK).digest
    note("what a reviewer sees of the manifest:")
    difference = Git(WORK).run("diff", "--stat", "main", "--", "deploy/manifest.yaml").splitlines()[-1].strip()
    note(f"  {difference}; digest {reviewed}")
    good(f"pull request #{pulls[0].number}: {pulls[0].title}")
    return pulls[0].number, reviewed


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


if __name__ == "__main__":
    main()
