import json
import os
import shutil

import numpy as np
import pytest
import yaml
from release_examples import hexes, lineage, model_folder, params, push, sha256, store, stored_release
from serve_samples import make_model

from mergeline.documents import parse
from mergeline.evaluate.results import Status
from mergeline.files import pack_zip
from mergeline.manifest.edit import empty_manifest, promote, rollback
from mergeline.manifest.schema import Lineage, Manifest
from mergeline.manifest.signatures import make_key_pair, sign_folder
from mergeline.model.artifact import mlflow_description
from mergeline.model.environment import TRAINING_FORMAT, team_package
from mergeline.model.lineage import git_tree
from mergeline.release.verify import compare_scorer, verify
from mergeline.release_params import Rollout
from mergeline.store.objects import object_md5


class World:
    """A repository with a store, and models that were released from it one after the other."""

    def __init__(self, root):
        self.root, self.place, self.text = root, root / "store", empty_manifest("flights")
        (root / "deploy").mkdir()
        self.write()

    def write(self):
        (self.root / "deploy" / "manifest.yaml").write_text(self.text)

    def release(self, version, **changes):
        folder = model_folder(self.root / f"model-{version}", seed=version)
        made = stored_release(self.place, folder, version, **changes)
        self.text = promote(self.text, made)
        self.write()
        self.lock(made.source)
        return made

    def lock(self, source):
        out = {"path": "model", "hash": "md5", "md5": object_md5(source) + ".dir", "size": 1, "nfiles": 3}
        stages = {"split": {"cmd": "x"}, "train": {"cmd": "y", "outs": [out]}}
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))

    def check(self, **changes):
        return {check.name: check for check in verify(self.root, params(**changes), store(self.place))}

    def failures(self, **changes):
        return {name: check for name, check in self.check(**changes).items() if check.status is Status.FAIL}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_repository_that_has_released_nothing_is_sound(world):
    checks = world.check()

    assert {name: check.status.value for name, check in checks.items()} == {
        "manifest": "pass",
        "name": "pass",
        "stable": "skip",
        "holds": "pass",
        "dvc.lock": "skip",
    }


def test_two_releases_that_are_all_there_are_sound(world):
    world.release(1)
    world.lock(world.release(2).source)

    checks = world.check()

    assert {check.status for check in checks.values()} == {Status.PASS, Status.SKIP}
    assert [name for name, check in checks.items() if check.status is Status.SKIP] == [
        "stable: signature",
        "previous: signature",
    ]


def test_a_released_model_that_names_a_system_call_is_a_finding(world):
    folder = model_folder(world.root / "forged", seed=9)
    node = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "protocol": 2}
    (folder / "model.skops").write_bytes(pack_zip({"schema.json": json.dumps(node).encode()}))
    made = stored_release(world.place, folder, 1)
    world.text = promote(world.text, made)
    world.write()
    world.lock(made.source)

    (failure,) = world.failures().values()

    assert failure.name == "stable: model"
    assert "os.system" in failure.meaning


def release_compiled(world, change=lambda base: base):
    """Release a compiled model, whose scorer begins from another number if `change` says so."""
    folder = world.root / "compiled"
    made_from = make_model(folder, compiled=True).model_copy(update={"training_format": TRAINING_FORMAT})
    (folder / "lineage.json").write_text(made_from.model_dump_json())
    with np.load(folder / "scorer.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["lookup-0"] = change(arrays["lookup-0"])
    np.savez(folder / "scorer.npz", **arrays)
    parts = {name: getattr(made_from, name) for name in Lineage.model_fields}
    made = stored_release(world.place, folder, 1, lineage=Lineage(**parts))
    world.text = promote(world.text, made)
    world.write()
    world.lock(made.source)


def test_a_compiled_scorer_is_compared_with_its_pipeline(world):
    release_compiled(world)

    assert world.check()["stable: scorer"].status is Status.PASS


def test_a_scorer_of_other_numbers_than_its_pipeline_s_is_a_finding(world):
    release_compiled(world, lambda values: values[::-1])

    (failure,) = world.failures().values()

    assert (failure.name, failure.value) == ("stable: scorer", "made of another pipeline: scorer.npz")


def test_a_scorer_of_another_training_format_is_not_compared_and_said(world):
    release_compiled(world)
    folder = world.root / "compiled"
    lineage_of = json.loads((folder / "lineage.json").read_text())
    (folder / "lineage.json").write_text(json.dumps({**lineage_of, "training_format": None}))

    found = compare_scorer("stable: scorer", folder)

    assert (found.status, "training format" in found.value) == (Status.SKIP, True)


def test_a_package_that_has_changed_is_told_where_the_model_calls_what_is_in_it(world):
    made = world.release(1)
    assert "stable: code" not in world.check()
    folder = model_folder(world.root / "model-2", seed=2)
    (folder / "MLmodel").write_text(mlflow_description(["toy.model.doubled"]))
    for code, told in ((git_tree(team_package("toy")), False), (made.lineage.code, True)):
        kept = made.lineage.model_copy(update={"code": code})
        released = stored_release(world.place, folder, 2, lineage=kept)
        world.text = promote(empty_manifest("flights"), released)
        world.write()
        check = world.check(model={"factory": "toy.model:linear"}).get("stable: code")
        assert (check is not None) is told
    assert check.status is Status.WARN
    assert "toy.model.doubled" in check.value


def test_a_broken_manifest_is_a_finding_with_the_line(world):
    world.text = world.text.replace("kind:", "kin:")
    world.write()

    assert "did you mean `kind`?" in world.failures()["manifest"].meaning


def test_a_manifest_of_another_model_is_a_finding(world):
    assert world.failures(name="trains")["name"].value == "flights"


def test_a_store_that_is_not_configured_is_a_finding(world):
    world.release(1)

    checks = {check.name: check.status for check in verify(world.root, params())}

    assert checks["store"] is Status.FAIL
    assert checks["holds"] is Status.PASS


def test_every_missing_object_is_named(world):
    made = world.release(1)
    gone = [path for path in (world.place / "files").rglob("*") if path.is_file() and not path.name.endswith(".dir")]
    for path in gone[:2]:
        path.unlink()

    found = world.failures()["stable: store"]

    assert set(found.value.split(", ")) == {path.relative_to(world.place).as_posix() for path in gone[:2]}
    assert made.source not in found.value


def test_a_damaged_object_is_a_finding(world):
    made = world.release(1)
    (world.place / made.source).write_bytes(b"[]")

    assert world.failures().keys() == {"stable: store"}


def test_other_bytes_than_the_manifest_promises_are_a_finding(world):
    other = push(world.place, model_folder(world.root / "other", seed=99))
    world.release(1, source=other)

    assert world.failures().keys() == {"stable: digest"}


def test_a_lineage_that_is_not_the_models_own_is_a_finding(world):
    own = lineage()
    wrong = Lineage(code=hexes("evil", 40), data=own.data, params=own.params, environment=own.environment)
    world.release(1, lineage=wrong)

    found = world.failures()["stable: lineage"]

    assert found.value == f"code is {own.code}, released as {wrong.code}"


def test_the_previous_model_is_checked_too(world):
    first = world.release(1)
    world.release(2)
    (world.place / first.source).unlink()

    assert world.failures().keys() == {"previous: store"}


def test_all_findings_come_at_once(world):
    first = world.release(1)
    world.release(2, digest=sha256("another"))
    world.lock(f"files/md5/aa/{'b' * 30}.dir")
    (world.place / first.source).unlink()

    assert world.failures(name="trains").keys() == {
        "name", "stable: digest", "stable: model", "previous: store", "dvc.lock",
    }  # fmt: skip


class TestSignatures:
    REQUIRED = {"signing": {"policy": "required", "public_key": "deploy/signing.pub"}}

    def test_an_unsigned_model_is_a_finding_where_signatures_are_required(self, world):
        world.release(1)

        assert world.failures(release=self.REQUIRED).keys() == {"stable: signature"}
        assert world.failures() == {}

    @pytest.mark.parametrize("named", [True, False])  # by the manifest: not where it was signed after its release
    def test_a_signed_model_is_sound_until_its_signature_goes_away(self, world, named):
        private, public = make_key_pair(world.root / "keys")
        shutil.copy(public, world.root / "deploy" / "signing.pub")
        folder = model_folder(world.root / "signed", seed=1)
        name = sign_folder(folder, world.root, params(release=self.REQUIRED).release.signing, private)
        world.release(1, **({"signature": name} if named else {}))
        assert world.check(release=self.REQUIRED)["stable: signature"].status is Status.PASS

        (world.root / name).unlink()

        assert world.failures(release=self.REQUIRED).keys() == {"stable: signature"}


class TestLock:
    def test_a_model_that_was_trained_and_not_proposed_is_a_finding(self, world):
        world.release(1)
        world.lock(f"files/md5/aa/{'b' * 30}.dir")

        assert "run mergeline propose" in world.failures()["dvc.lock"].meaning

    def test_a_model_that_was_rolled_back_is_none(self, world):
        world.release(1)
        world.lock(world.release(2).source)
        world.text = rollback(world.text, "late")
        world.write()

        checks = world.check()

        assert (checks["dvc.lock"].status, checks["dvc.lock"].meaning) == (
            Status.PASS,
            "it was rolled back and is held",
        )
        assert checks["holds"].status is Status.WARN

    @pytest.mark.parametrize("text", ["a: [", "- 1", "stages: 3", "stages: {train: {outs: [1]}}"])
    def test_a_lock_that_cannot_be_read_is_a_finding(self, world, text):
        world.release(1)
        (world.root / "dvc.lock").write_text(text)

        assert world.failures().keys() == {"dvc.lock"}


def test_a_lock_that_is_gone_is_a_finding_once_something_is_released(world):
    world.release(1)
    (world.root / "dvc.lock").unlink()

    assert "git checkout -- dvc.lock" in world.failures()["dvc.lock"].meaning


@pytest.mark.parametrize(("name", "finding"), [("dvc.lock", "dvc.lock"), ("deploy/manifest.yaml", "manifest")])
def test_a_fifo_in_the_place_of_a_file_is_a_finding_and_keeps_nobody_waiting(world, name, finding):
    world.lock(world.release(1).source)
    (world.root / name).unlink()
    os.mkfifo(world.root / name)

    assert "this is not a file" in world.failures()[finding].meaning


def test_a_fifo_in_the_place_of_dvcs_configuration_neither(world):
    world.lock(world.release(1).source)
    (world.root / ".dvc").mkdir()
    os.mkfifo(world.root / ".dvc" / "config")

    found = {check.name: check for check in verify(world.root, params())}

    assert "this is not a file" in found["store"].meaning


def test_a_hold_on_the_candidate_ends_its_rollout_and_is_told(world):
    world.lock(world.release(1).source)
    rollout = Rollout.model_validate({"strategy": "canary", "steps": [{"weight": 5, "hold": "15m"}]})
    folder = model_folder(world.root / "model-2", seed=2)
    candidate = stored_release(world.place, folder, 2)
    world.text = promote(world.text, candidate, rollout)
    world.text = world.text.replace("  holds: []", f"  holds:\n    - {{digest: {candidate.digest}, reason: slow}}")
    world.write()

    checks = world.check()

    assert (checks["holds"].status, checks["holds"].meaning[:21]) == (Status.WARN, "the candidate is held")
    assert world.failures() == {}
    spec = parse(world.text, Manifest, "manifest").spec
    assert spec.candidate is None
    assert [(hold.reason, hold.version) for hold in spec.holds] == [("slow", 2)]
