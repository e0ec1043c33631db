"""The command line starts at once, and tells errors in one piece."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from mergeline.cli.new import QUESTIONS
from mergeline.cli.propose import what_next
from mergeline.github.git import Git
from mergeline.release.proposal import Proposal, ProposalStatus
from verb_calls import call_verb

ROOT = Path(__file__).parents[2]
HEAVY = {"numpy", "pandas", "sklearn", "scipy", "pandera", "mlflow", "dvc", "bentoml", "skops", "pydantic"}


def run(*arguments, cwd):
    return subprocess.run(
        [str(Path(sys.executable).with_name("mergeline")), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "engine" / "src")},
    )


def test_help_loads_nothing_heavy():
    code = "import sys, mergeline.cli.verbs; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "typer" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_help_lists_every_verb(tmp_path):
    shown = run("--help", cwd=tmp_path).stdout
    for verb in (
        "environment",
        "validate",
        "train",
        "evaluate",
        "gate",
        "propose",
        "report",
        "verify",
        "register",
        "serve",
        "diagnose",
    ):
        assert f" {verb} " in shown


@pytest.mark.parametrize(
    ("url", "made"), [("../store", "dvc.lock, deploy/ and store/"), ("/srv/store", "dvc.lock and deploy/")]
)
def test_what_is_to_be_committed_after_a_proposal_is_what_git_keeps(tmp_path, url, made):
    Git.init(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {url}\n")
    proposal = Proposal(ProposalStatus.PROPOSED, "sha256:00", 1)
    said = what_next(tmp_path, proposal, pull_request=False, next_step=True)
    assert f"next: commit your change with {made}, or run" in said


def test_it_tells_the_version_that_is_installed(tmp_path):
    assert run("--version", cwd=tmp_path).stdout == f"mergeline {version('mergeline')}\n"


def test_the_readme_lists_every_verb_of_help(tmp_path):
    shown = set(re.findall(r"^  ([a-z][a-z-]+)  ", run("--help", cwd=tmp_path).stdout, re.MULTILINE))
    rows = [line.split("|")[1] for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| `")]
    assert shown
    assert shown - set(re.findall(r"[a-z][a-z-]+", " ".join(rows))) == set()


def test_what_only_workflows_call_is_one_group_that_help_does_not_show(tmp_path):
    assert " ci " not in run("--help", cwd=tmp_path).stdout
    shown = run("ci", "--help", cwd=tmp_path).stdout
    for verb in ("bundle", "apply", "comment", "check", "scope", "plan", "newest", "attested", "page"):
        assert f" {verb} " in shown


@pytest.mark.parametrize(
    "verb", ["environment", "validate", "train", "evaluate", "gate", "propose", "report", "verify"]
)
def test_a_folder_that_is_no_project_is_told_in_one_piece(tmp_path, verb):
    done = call_verb(tmp_path, verb)
    assert done.returncode == 1
    assert done.stderr.startswith("mergeline: params.yaml: the file is missing")
    assert "Traceback" not in done.stderr


def test_where_the_root_has_no_model_a_verb_asks_which_one_and_all_takes_every_one(tmp_path):
    (tmp_path / ".dvc").mkdir()
    for name in ("fraud", "churn"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    done = run("verify", cwd=tmp_path)
    assert (done.returncode, "there are: --model churn, --model fraud" in done.stderr) == (1, True)
    assert "deploy/manifest.yaml: the file is missing" in run("verify", "--model", "fraud", cwd=tmp_path).stdout
    told = run("verify", "--all", cwd=tmp_path).stdout
    assert "churn: manifest" in told
    assert "fraud: manifest" in told


def test_where_nobody_reads_the_output_any_more_there_is_no_traceback(tmp_path):
    code = "import sys, time; from mergeline.process import exit_code; time.sleep(0.5); "
    code += "sys.exit(exit_code(lambda: print('words ' * 50_000, flush=True)))"
    script = f'({sys.executable} -c "{code}"; echo ended with $? >&2) | true'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == "ended with 141\n"


def test_a_misspelt_verb_is_a_usage_error(tmp_path):
    assert run("propse", cwd=tmp_path).returncode == 2


def test_a_file_that_a_bug_misses_keeps_its_traceback():
    code = "from mergeline.cli import main, verbs; verbs.app = lambda: open('/proc/nowhere'); main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr
    assert "cannot be written" not in done.stderr


@pytest.mark.slow
def test_imports_go_one_way():
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT / "engine",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_module_is_over_400_lines():
    sizes = {path: len(path.read_text().splitlines()) for path in (ROOT / "engine" / "src").rglob("*.py")}
    assert {path: size for path, size in sizes.items() if size > 400} == {}
    assert sorted(sizes.values())[len(sizes) // 2] < 200  # most are read in one go


def test_an_answer_to_no_question_is_told_with_the_nearest(tmp_path):
    done = call_verb(tmp_path, "new", "orders", "--data", "targt=returned", "--defaults")
    assert done.returncode == 2
    assert "no question 'targt'; did you mean target=?" in " ".join(done.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_a_new_model_begins_with_what_was_named_and_nothing_else(tmp_path):
    for words in ((), ("--recipe", "irs")):
        done = call_verb(tmp_path, "new-model", "fraud", *words)
        assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
        assert "--recipe takes iris, digits" in " ".join(done.stderr.replace("│", " ").split())


def test_the_answers_that_new_takes_are_those_of_copier_s_questions():
    asked = yaml.safe_load((ROOT / "copier.yml").read_text())
    assert tuple(key for key in asked if not key.startswith("_")) == QUESTIONS
