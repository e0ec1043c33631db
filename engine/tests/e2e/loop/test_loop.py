"""The loop in a scratch repository, with real git, DVC, MLflow and forge."""

import hashlib
import json
import shutil

import pandas as pd
import pytest
import yaml
from loop_project import kill_when, runs_stage

from forge_with_buttons import ForgeWithButtons
from mergeline.manifest.schema import read_manifest
from mergeline.model.artifact import folder_digest
from mergeline.store.objects import Store
from toy_data import orders

pytestmark = pytest.mark.slow


def manifest(project):
    return read_manifest(project.root / "deploy" / "manifest.yaml").spec


class TestProposing:
    def test_the_first_model_is_judged_without_a_champion(self, project):
        done = project.mergeline("propose")
        assert "no champion" in done.stdout
        assert manifest(project).stable.version == 1
        assert manifest(project).stable.digest == folder_digest(project.root / "model")
        project.mergeline("verify")

    def test_a_first_model_is_proposed_again_before_and_after_its_commit_and_its_push(self, project):
        """Main has no model yet, and the branch has one: the newest proposal takes the place of those before."""
        project.git.switch("mine", start="main")
        for seed, publish in ((1, None), (2, None), (3, "commit"), (4, "push"), (5, None)):
            project.set_params(model={"arguments": {"C": 1.0 / seed}})
            project.mergeline("propose")
            assert manifest(project).stable.version == 1
            assert manifest(project).previous is None
            assert manifest(project).stable.digest == folder_digest(project.root / "model")
            if publish:
                project.commit_all(f"proposal {seed}")
            if publish == "push":
                project.git.run("push", "--quiet", "origin", "mine")
        project.mergeline("verify")

    def test_the_same_again_proposes_nothing(self, released):
        before = released.state()
        assert "unchanged" in released.mergeline("propose").stdout
        assert released.state() == before
        assert released.git.changed() == ()

    def test_a_worse_model_writes_nothing_but_the_report(self, released):
        before = released.state()
        released.set_params(model={"arguments": {"C": 1e-6}})
        done = released.mergeline("propose", "--pull-request", code=3)
        assert "rejected" in done.stdout
        assert released.state() == before
        assert released.git.changed() == ("params.yaml",)
        assert released.git.branch() == "main"
        assert (released.root / "report" / "report.md").read_text().startswith("## ")

    def test_a_better_model_becomes_a_pull_request_and_the_merge_releases_it(self, released):
        first = manifest(released).stable
        released.set_params(model={"factory": "toy.model:boosted", "arguments": {"max_iter": 40}}, gate={"margin": 0.1})
        released.mergeline("propose", "--pull-request")
        forge = ForgeWithButtons(released.root.parent / "forge")
        (pull,) = forge.list_open()
        assert pull.base == "main"
        assert manifest(released).stable.evidence.pull == pull.number
        comment = (forge.folder / "pulls" / str(pull.number) / "comments" / "report.md").read_text()
        assert manifest(released).stable.digest in comment
        released.mergeline("propose", "--pull-request")
        assert [open_pull.number for open_pull in forge.list_open()] == [pull.number]
        forge.merge(pull.number)
        released.git.switch("main")
        released.git.run("pull", "--quiet", "origin", "main")
        released.mergeline("verify")
        assert manifest(released).previous == first
        assert manifest(released).stable.version == 2
        fetched = released.root.parent / "fetched"
        Store(str(released.root / "store")).fetch_folder(manifest(released).stable.source, fetched)
        assert folder_digest(fetched) == manifest(released).stable.digest
        assert "unchanged" in released.mergeline("propose").stdout

    def test_a_proposal_differs_from_main_in_ten_lines_of_the_manifest_at_most(self, released):
        released.set_params(model={"arguments": {"C": 0.9}})
        released.mergeline("propose")
        difference = released.git.run("diff", "--numstat", "--", "deploy/manifest.yaml").split()
        assert 3 <= int(difference[0]) + int(difference[1]) <= 10

    def test_what_a_person_wrote_into_the_manifest_stays_in_the_next_proposal(self, released):
        released.set_params(model={"arguments": {"C": 0.9}})
        released.mergeline("propose")
        released.commit_all("Second model")
        released.set_params(model={"arguments": {"C": 0.8}})
        released.mergeline("propose")
        path = released.root / "deploy" / "manifest.yaml"
        path.write_text(path.read_text().replace("annotations: {}", "annotations: {owner: the shop}"))
        released.set_params(model={"arguments": {"C": 0.7}})
        released.mergeline("propose")
        assert "annotations: {owner: the shop}" in path.read_text()
        assert (manifest(released).previous.version, manifest(released).stable.version) == (2, 3)
        released.mergeline("rollback", "charged twice")
        assert manifest(released).stable.version == 2
        assert [hold.reason for hold in manifest(released).holds] == ["charged twice"]
        released.mergeline("hold", "remove", manifest(released).holds[0].digest)
        assert manifest(released).holds == ()

    def test_another_teams_manifest_is_no_champion(self, released):
        released.set_params(name="shop", model={"arguments": {"C": 0.9}})
        assert "no champion" in released.mergeline("propose").stdout
        found = read_manifest(released.root / "deploy" / "manifest.yaml")
        assert (found.metadata.name, found.spec.stable.version, found.spec.previous) == ("shop", 1, None)

    def test_a_model_under_a_hold_is_refused(self, released):
        before = released.state()["store/" + manifest(released).stable.source]
        released.set_params(model={"arguments": {"C": 0.9}})
        released.mergeline("propose")
        digest = manifest(released).stable.digest
        released.git.run("checkout", "--", "deploy", "dvc.lock")
        text = (released.root / "deploy" / "manifest.yaml").read_text()
        held = text.replace("holds: []", f"holds: [{{digest: {digest}, reason: it lost money}}]")
        (released.root / "deploy" / "manifest.yaml").write_text(held)
        released.git.run("commit", "--quiet", "--message", "Hold", "deploy", settings=released.git.identity())
        released.git.run("push", "--quiet", "origin", "main")
        done = released.mergeline("propose", code=1)
        assert "is under a hold: it lost money" in done.stderr
        assert (released.root / "deploy" / "manifest.yaml").read_text() == held
        assert before

    def test_a_fresh_clone_restores_everything_without_training(self, released):
        clone = released.root.parent / "clone"
        released.git.run("clone", "--quiet", str(released.root.parent / "forge" / "repository.git"), str(clone))
        other = type(released)(clone)
        assert other.run("dvc", "pull", "--quiet").returncode == 0
        assert folder_digest(clone / "model") == manifest(released).stable.digest
        assert "unchanged" in other.mergeline("propose").stdout
        shutil.rmtree(clone / "model")
        shutil.rmtree(clone / ".dvc" / "cache")
        done = other.mergeline("propose")
        assert "trained:" not in done.stderr
        assert folder_digest(clone / "model") == manifest(released).stable.digest

    def test_training_in_two_clones_gives_the_same_bytes(self, released):
        clone = released.root.parent / "clone"
        released.git.run("clone", "--quiet", str(released.root.parent / "forge" / "repository.git"), str(clone))
        other = type(released)(clone)
        assert other.run("dvc", "pull", "--quiet", "data.dvc").returncode == 0
        assert other.run("dvc", "repro", "--force").returncode == 0
        assert folder_digest(clone / "model") == manifest(released).stable.digest
        assert (clone / "dvc.lock").read_bytes() == (released.root / "dvc.lock").read_bytes()


class TestBadInput:
    def test_a_corrupt_row_stops_the_pipeline_and_changes_nothing(self, released):
        path = released.root / "data" / "2024-03.parquet"
        frame = pd.read_parquet(path)
        frame.loc[3, "amount"] = -1.0
        path.unlink()
        frame.to_parquet(path)
        assert released.run("dvc", "add", "--quiet", "data").returncode == 0
        before, model = released.state(), folder_digest(released.root / "model")
        done = released.mergeline("propose", code=1)
        assert "2024-03: amount: range in 1 row" in done.stderr
        assert released.state() == before
        assert folder_digest(released.root / "model") == model

    def test_a_truncated_partition_is_named(self, released):
        path = released.root / "data" / "2024-02.parquet"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:3000])
        assert released.run("dvc", "add", "--quiet", "data").returncode == 0
        done = released.mergeline("propose", code=1)
        assert "2024-02.parquet: the file is damaged" in done.stderr

    def test_rows_that_dvc_has_not_seen_are_neither_proposed_nor_lost(self, released):
        before = released.state()
        orders("2024-04", 1500).to_parquet(released.root / "data" / "2024-04.parquet", index=False)
        done = released.mergeline("propose", code=1)
        assert "keep what is there: dvc add data" in done.stderr
        assert released.state() == before
        assert (released.root / "data" / "2024-04.parquet").exists()

    @pytest.mark.parametrize("suffix", [".dir", ""])
    def test_a_flipped_bit_in_the_store_is_found(self, released, suffix):
        store = released.root / "store"
        source = store / manifest(released).stable.source
        if not suffix:
            skops = next(e for e in json.loads(source.read_text()) if e["relpath"] == "model.skops")
            source = store / "files" / "md5" / skops["md5"][:2] / skops["md5"][2:]
        content = bytearray(source.read_bytes())
        content[100] ^= 1
        source.chmod(0o644)
        source.write_bytes(content)
        assert "fail" in released.mergeline("verify", code=1).stdout
        released.set_params(model={"arguments": {"C": 0.9}})
        before = released.state()
        done = released.mergeline("propose", code=1)
        assert "its name promises" in done.stderr
        assert released.state() == before

    def test_a_manifest_edited_by_hand_is_found(self, released):
        path = released.root / "deploy" / "manifest.yaml"
        digest = manifest(released).stable.digest
        other = "sha256:" + hashlib.sha256(b"other").hexdigest()
        path.write_text(path.read_text().replace(digest, other))
        assert "fail" in released.mergeline("verify", code=1).stdout
        path.write_text(path.read_text().replace("stable:", "stabel:"))
        done = released.mergeline("verify", code=1)
        assert "did you mean `stable`?" in done.stdout + done.stderr

    def test_no_room_on_the_disk_leaves_everything_as_it_was(self, released):
        before = released.state()
        released.set_params(model={"arguments": {"C": 0.9}})
        limit = (
            "import resource,runpy,signal,sys;"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000));"
            "sys.argv=['mergeline','propose'];"
            "runpy.run_module('mergeline.cli', run_name='__main__')"
        )
        done = released.run("python", "-c", limit)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr.splitlines()[-3:]
        assert released.state() == before
        released.mergeline("propose")

    def test_a_proposal_killed_in_any_stage_can_be_made_again(self, released):
        released.set_params(
            model={"arguments": {"C": 0.9}},
            validation={"min_rows": 90},
            split={"train": 1},
            evaluation={"resamples": 300},
        )
        for stage in ("validate", "train", "evaluate"):
            kill_when(released, lambda session, stage=stage: runs_stage(session, stage), "propose")
            assert manifest(released).stable.version == 1
        released.mergeline("propose")
        released.mergeline("verify")
        assert manifest(released).stable.version == 2


class TestParamsMessages:
    def test_a_misspelt_key_is_told_before_anything_runs(self, released):
        path = released.root / "params.yaml"
        values = yaml.safe_load(path.read_text())
        values["gate"]["margn"] = values["gate"].pop("margin")
        path.write_text(yaml.safe_dump(values))
        done = released.mergeline("propose", code=1)
        assert "unknown key `gate.margn`" in done.stderr
        assert "did you mean `margin`?" in done.stderr
