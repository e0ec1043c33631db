"""A candidate beside stable by the labels that came, on requests that both scored and on others."""

import shutil
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from production_journal import END, START, Production, draw, outcome, score
from release_examples import push

from mergeline.errors import WatchError
from mergeline.evaluate.results import GateOutcome
from mergeline.manifest.schema import Manifest
from mergeline.model.artifact import folder_digest
from mergeline.params import Task
from mergeline.watch.rivals import try_candidate


class Rollout:
    """A production whose candidate's folder lies in the store of the repository."""

    def __init__(self, root, task=Task.BINARY, **sections):
        self.production = Production(root / "work", task, sections=sections)
        folder = root / "candidate"
        shutil.copytree(self.production.root / "model", folder)
        (folder / "note.txt").write_text("another model\n")
        self.candidate = folder_digest(folder)
        source = push(root / "store", folder)
        dvc = self.production.root / ".dvc"
        dvc.mkdir()
        (dvc / "config").write_text("[core]\n    remote = s\n['remote \"s\"']\n    url = ../../store\n")
        spec = self.production.manifest.model_dump()
        spec["spec"]["candidate"] = spec["spec"]["stable"] | {
            "version": 4, "digest": self.candidate, "source": source
        }  # fmt: skip
        spec["spec"]["rollout"] = {"strategy": "canary", "steps": [{"weight": 5, "hold": "1h"}]}
        self.manifest = Manifest.model_validate(spec)

    def both(self, rows, candidate_scores, *, canary):
        """Requests that both scored: in a canary the candidate answers and stable is beside it, else the other way."""
        production = self.production
        frame = draw(production.rng, rows)
        good = score(production.task, frame)
        truth = outcome(production.task, good, production.rng)
        shown = candidate_scores(good, production.rng)
        digest = self.candidate if canary else production.digest
        answered, beside = (shown, good) if canary else (good, shown)
        made = production.answer(START, END, rows, frame=frame, digest=digest, shadow=beside,
                                 role="candidate" if canary else "stable")  # fmt: skip
        relabel(
            production,
            digest,
            answered if answered.ndim == 1 else answered.max(axis=1),
            production.digest if canary else self.candidate,
        )
        production.label(made, truth)

    def judge(self, journal=None, since=START):
        production = self.production
        return try_candidate(
            production.root, production.params, self.manifest, journal or str(production.journal), since=since,
            now=END + timedelta(days=1),
        )  # fmt: skip


def relabel(production, digest, scores, shadow):
    """Give the newest file of a digest these scores, and its shadow this name."""
    place = 0
    for file in sorted(
        production.journal.glob(f"predictions/day=*/digest={digest[7:19]}/made-{production.number}.parquet")
    ):
        table = pq.read_table(file)
        rows = table.num_rows
        for name, values in (("_score", scores[place : place + rows]), ("_shadow_digest", [shadow] * rows)):
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
        pq.write_table(table, file)
        place += rows


def noisy(scores, rng):
    return np.clip(scores + rng.normal(0, 0.35, len(scores)), 0.001, 0.999)


def often_turned(scores, rng):
    """Every fourth row's classes in another order."""
    return np.where(rng.random(len(scores))[:, None] < 0.25, np.roll(scores, 1, axis=1), scores)


def same(scores, rng):
    return np.clip(scores + rng.normal(0, 0.002, len(scores)), 0.001, 0.999)


@pytest.mark.parametrize("canary", [True, False])
def test_a_worse_candidate_is_worse_by_the_labels_of_requests_that_both_scored(tmp_path, canary):
    rollout = Rollout(tmp_path)
    rollout.both(3000, noisy, canary=canary)
    trial = rollout.judge()
    assert (trial.paired, trial.labelled, trial.outcome) == (True, 3000, GateOutcome.WORSE)
    assert trial.gain.high < 0
    assert "on 3,000 labelled requests that both scored" in trial.reading


def test_of_several_classes_a_margin_in_nats_is_no_margin_of_the_accuracy(tmp_path):
    rollout = Rollout(tmp_path, Task.MULTICLASS, gate={"margin": 0.15})
    rollout.both(3000, often_turned, canary=False)
    trial = rollout.judge()
    assert -0.15 < trial.gain.low < trial.gain.high < 0  # less than 0.15, but 0.15 nats are a part of the log loss
    assert trial.outcome is GateOutcome.WORSE


def test_of_several_classes_one_as_good_is_equivalent(tmp_path):
    rollout = Rollout(tmp_path, Task.MULTICLASS)
    rollout.both(3000, lambda scores, rng: scores, canary=False)
    assert rollout.judge().outcome is GateOutcome.EQUIVALENT


def test_one_as_good_is_equivalent_and_both_directions_count(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.both(1500, same, canary=True)
    rollout.both(1500, same, canary=False)
    trial = rollout.judge()
    assert (trial.labelled, trial.outcome) == (3000, GateOutcome.EQUIVALENT)


def test_answers_to_other_requests_are_a_weak_test_that_only_takes_away(tmp_path):
    rollout = Rollout(tmp_path)
    production = rollout.production
    for digest, role in ((production.digest, "stable"), (rollout.candidate, "candidate")):
        rows = production.answer(START, END, 2000, digest=digest, role=role)
        production.label(rows)
    trial = rollout.judge()
    assert (trial.paired, trial.labelled) == (False, 2000)
    assert trial.outcome in (GateOutcome.EQUIVALENT, GateOutcome.BETTER, None)
    assert "unpaired" in trial.reading


def test_too_few_labels_say_nothing(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.both(50, same, canary=True)
    trial = rollout.judge()
    assert trial.outcome is None
    assert "too few" in trial.reading


def test_without_a_journal_the_trial_says_so_and_nothing_of_the_candidate(tmp_path):
    trial = Rollout(tmp_path).judge()
    assert (trial.paired, trial.outcome, trial.reading) == (False, None, "not looked at: there is no journal")


def test_a_journal_that_does_not_answer_is_an_error(tmp_path):
    rollout = Rollout(tmp_path)
    with pytest.raises(WatchError, match="the journal does not answer"):
        rollout.judge("nowhere://bucket/journal")


def test_a_damaged_file_costs_its_own_rows_alone(tmp_path):
    rollout = Rollout(tmp_path)
    rollout.both(1500, same, canary=True)
    rollout.both(1500, same, canary=True)
    first = sorted((rollout.production.journal / "feedback").rglob("*.parquet"))[0]
    lost = pq.read_metadata(first).num_rows
    content = first.read_bytes()
    first.write_bytes(b"PAR1" + b"\xff" * (len(content) // 2) + content[4 + len(content) // 2 :])
    trial = rollout.judge()
    assert 2000 < trial.labelled <= 3000 - lost
    assert trial.reading.endswith("1 of the journal's files could not be read")
