"""The workflow files keep the rules that make them safe: linters first, then the rules of our own."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import typer.main

from mergeline.ci import scope
from mergeline.cli.verbs import app
from workflow_files import (
    ACTIONS,
    GITHUB,
    JOBS,
    MAIN,
    ROOT,
    WITH_STEPS,
    WORKFLOWS,
    Job,
    all_steps,
    each_job_with_steps,
    each_workflow,
    jobs,
    load,
    triggers,
)

GROUPS = {"ci", "hold", "image", "rollout"}


def commands():
    """Each verb that a step runs, with the options that it is given."""
    for job in jobs():
        for step in job.steps:
            for words in re.findall(r"\bmergeline ([^&|\n]+)", step.get("run", "")):
                verb, *rest = words.split()
                if verb in GROUPS:
                    verb = f"{verb} {rest.pop(0)}"
                yield job, verb, re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(rest))


def tool(name, *arguments):
    program = Path(sys.executable).with_name(name)
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_workflows_of_the_design_are_there():
    names = {"checks", "model", "comment", "deploy", "rollback", "watch", "rollout"}
    assert names <= {path.stem for path in WORKFLOWS}


def test_zizmor_finds_nothing_at_its_pedantic_setting():
    found = tool(
        "zizmor", "--pedantic", "--offline", "--strict-collection", "--collect=all", "--no-progress", ".github"
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_actionlint_finds_nothing():
    found = tool("actionlint")
    assert found.returncode == 0, found.stdout + found.stderr


def test_zizmor_really_looks_here(tmp_path):
    """The linter is not merely silent: the same file with an injection is refused."""
    text = (GITHUB / "workflows" / "rollback.yml").read_text().replace('"$REASON"', '"${{ inputs.reason }}"')
    (tmp_path / "bad.yml").write_text(text)
    found = tool("zizmor", "--pedantic", "--offline", str(tmp_path / "bad.yml"))
    assert "template-injection" in found.stdout
    assert found.returncode != 0


def test_each_suppression_says_why():
    found = [
        (path.name, match)
        for path in [*WORKFLOWS, *ACTIONS]
        for match in re.findall(r"# zizmor: ignore\[[\w,-]+\](.*)", path.read_text())
    ]
    assert found
    assert all(len(reason.split()) >= 4 for _, reason in found), found
    rules = (GITHUB / "zizmor.yml").read_text()
    assert rules.count("disable: true") == len(re.findall(r"#[^\n]+\n +disable: true", rules))


def test_a_merge_of_words_alone_deploys_nothing():
    """What deploy.yml leaves out is what costs a pull request neither tests nor model."""
    ignored = triggers(load(GITHUB / "workflows" / "deploy.yml"))["push"]["paths-ignore"]
    for pattern in ignored:
        path = pattern.replace("**", "a/page").replace("*", "README")
        assert not scope.decide("a" * 40, [path], {"flights": scope.ModelPaths(".", ["src/flights"])}).check, pattern


@each_job_with_steps
def test_a_job_has_a_time_limit(job):
    assert 0 < job.body["timeout-minutes"] <= 120


@each_workflow
def test_only_runs_for_pull_requests_are_cancelled(path):
    cancel = load(path)["concurrency"]["cancel-in-progress"]
    assert cancel is False or cancel == "${{ github.event_name == 'pull_request' }}"


def test_releases_are_never_cancelled():
    assert load(GITHUB / "workflows" / "deploy.yml")["concurrency"] == {
        "group": "deploy-${{ github.sha }}",
        "cancel-in-progress": False,
    }


def test_no_logic_stands_in_a_script():
    scripts = [step["run"] for step in all_steps() if "run" in step]
    assert not [script for script in scripts if re.search(r"\b(if|for|while|case|jq|awk|sed)\b", script)]
    assert max(len(script.strip().splitlines()) for script in scripts) <= 2


def test_what_a_pull_request_does_fits_on_one_screen():
    lines = (GITHUB / "workflows" / "model.yml").read_text().splitlines()
    assert len(lines) <= 60


def test_main_s_code_decides_what_runs_and_refuses_forks_by_hand_before_any_of_their_code_runs():
    found = load(GITHUB / "workflows" / "proposal.yml")["jobs"]
    plan = Job("proposal.yml", "plan", found["plan"])
    assert "if" not in plan.body
    assert [step["with"]["ref"] for step in plan.uses("actions/checkout@")] == [MAIN]
    assert "mergeline ci scope" in plan.steps[-1]["run"]
    for key, condition in (("tests", "tests == 'true'"), ("reproduce", "models != '[]'")):
        assert found[key]["needs"] == "plan"
        assert found[key]["if"] == f"needs.plan.outputs.{condition}"
    assert "needs.reproduce.result != 'skipped'" in found["propose"]["if"]


def test_a_run_tests_and_reproduces_one_commit():
    """Not refs/pull/N/merge: GitHub leaves that where it was while the branch conflicts with main."""
    found = load(GITHUB / "workflows" / "proposal.yml")["jobs"]
    reproduce = Job("proposal.yml", "reproduce", found["reproduce"])
    [checkout] = reproduce.uses("actions/checkout@")
    assert found["tests"]["with"]["ref"] == checkout["with"]["ref"] == "${{ needs.plan.outputs.head }}"
    assert "refs/pull" not in (GITHUB / "workflows" / "proposal.yml").read_text()


def test_what_is_published_is_the_commit_that_was_verified_and_only_while_it_is_the_newest():
    found = {job.key: job for job in JOBS if job.file == "deploy.yml"}
    assert all("ref" not in step["with"] for job in found.values() for step in job.uses("actions/checkout@"))
    for key in ("register", "page"):
        scripts = [step.get("run", "") for step in found[key].steps]
        place = scripts.index("mergeline ci newest")
        told = "mergeline ci announce"  # reads main as it is when it runs
        later = [step for step in found[key].steps[place + 1 :] if told not in step.get("run", told)]
        assert later
        assert all("steps.main.outputs.newest == 'true'" in step["if"] for step in later)


def test_what_a_deployment_that_failed_has_left_undone_is_planned_again():
    """The plan is made against the last deployment that succeeded, and not against the push's own commit before it."""
    verify = next(job for job in JOBS if (job.file, job.key) == ("deploy.yml", "verify"))
    [plan] = [step for step in verify.steps if step.get("run", "").startswith("mergeline ci plan")]
    assert "--before" not in plan["run"].partition("#")[0]
    assert verify.body["permissions"]["actions"] == "read"


def test_job_names_are_unique_among_those_that_run_steps():
    names = [job.body["name"] for job in WITH_STEPS]
    assert len(set(names)) == len(names)


def test_the_required_check_is_the_aggregator_and_comes_from_actions():
    ruleset = json.loads((GITHUB / "rulesets" / "main.json").read_text())
    rules = {rule["type"]: rule.get("parameters", {}) for rule in ruleset["rules"]}
    [check] = rules["required_status_checks"]["required_status_checks"]
    aggregator = load(GITHUB / "workflows" / "model.yml")["jobs"]["mergeline"]
    assert check == {"context": aggregator["name"], "integration_id": 15368}
    assert aggregator["if"] == "always()"  # skipped would count as passed
    assert aggregator["needs"] == "proposal"
    conclusion = load(GITHUB / "workflows" / "proposal.yml")["jobs"]["check"]
    assert set(conclusion["needs"]) == {"plan", "tests", "reproduce", "propose"}
    assert conclusion["if"].startswith("always()")


def test_the_required_check_runs_in_a_merge_queue_and_on_every_path():
    on = triggers(load(GITHUB / "workflows" / "model.yml"))
    assert "merge_group" in on
    assert on["pull_request"] == {"branches": ["main"]}


def test_a_merge_queue_merges_one_at_a_time_so_that_each_model_meets_the_champion_of_its_day():
    [rule] = json.loads((GITHUB / "rulesets" / "merge-queue.json").read_text())["rules"]
    assert rule["type"] == "merge_queue"
    assert rule["parameters"]["max_entries_to_build"] == rule["parameters"]["max_entries_to_merge"] == 1


def test_workflows_and_what_is_served_have_owners():
    owned = {line.split()[0] for line in (GITHUB / "CODEOWNERS").read_text().splitlines() if line.startswith("/")}
    assert {"/.github/", "/deploy/", "/engine/", "/uv.lock"} <= owned


def test_updates_wait_a_week():
    updates = load(GITHUB / "dependabot.yml")["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"uv", "github-actions"}
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)
    places = next(update["directories"] for update in updates if update["package-ecosystem"] == "github-actions")
    assert all(any(path.parent.match(f"{ROOT}{place}") for place in places) for path in ACTIONS)


def test_every_verb_and_option_that_a_workflow_calls_exists():
    known_verbs = typer.main.get_command(app)
    verbs = {name: known_verbs.get_command(None, name) for name in [*known_verbs.commands, "ci"]}
    for group in GROUPS & set(verbs):
        verbs |= {f"{group} {name}": verb for name, verb in verbs.pop(group).commands.items()}
    called = list(commands())
    assert len(called) >= 10
    for job, verb, options in called:
        assert verb in verbs, f"{job.file}: mergeline {verb}"
        known = {name for parameter in verbs[verb].params for name in parameter.opts}
        assert set(options) <= known, f"{job.file}: mergeline {verb}"


def test_a_schedule_does_nothing_in_a_fork_or_a_copy_until_a_person_switches_it_on():
    scheduled = [path for path in WORKFLOWS if "schedule" in triggers(load(path))]
    assert {path.name for path in scheduled} == {"watch.yml", "rollout.yml", "promote.yml", "template.yml"}
    for path in scheduled:
        assert set(triggers(load(path))) == {"schedule", "workflow_dispatch"}
        for job in load(path)["jobs"].values():
            assert "!github.event.repository.fork" in job["if"]
            assert "vars.MERGELINE_SCHEDULES == 'on' || github.event_name == 'workflow_dispatch'" in job["if"]
            verbs = [step["run"] for step in job.get("steps", []) if "run" in step]
            assert job.get("uses", "").startswith("./.github/workflows/") or len(verbs) == 1


def test_fresh_rows_go_the_way_of_every_proposal():
    """What was read from the journal is trained on where nothing may be written, and put on a branch elsewhere."""
    watching = load(GITHUB / "workflows" / "watching.yml")["jobs"]
    assert watching["retrain"]["uses"] == "./.github/workflows/proposal.yml"
    given = {name: f"${{{{ matrix.retrain.{name} }}}}" for name in ("branch", "model")}
    assert watching["retrain"]["with"] == {**given, "ingest": "retraining"}
    reproduce = load(GITHUB / "workflows" / "proposal.yml")["jobs"]["reproduce"]
    [taken] = [step for step in reproduce["steps"] if step.get("if") == "inputs.ingest"]
    assert taken["with"]["path"] == "build/retraining"
    assert reproduce["permissions"] == {"contents": "read"}


def test_a_job_that_is_run_again_may_upload_again():
    uploads = [step for step in all_steps() if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert uploads
    assert all(step["with"]["overwrite"] is True for step in uploads)


@each_job_with_steps
def test_the_variable_chooses_the_runner_of_every_job_that_a_team_gets(job):
    if job.file != "engine.yml":
        assert job.body["runs-on"] == "${{ vars.MERGELINE_RUNNER || 'ubuntu-latest' }}"


@each_job_with_steps
def test_the_whole_history_comes_without_its_files_where_verbs_alone_read_it(job):
    """Files come when git asks for them, with the job's token: DVC, the checks of a release and copier have none."""
    installs = [step.get("with", {}).get("install", "") for step in job.uses("./.github/actions/setup")]
    whole = [step["with"] for step in job.uses("actions/checkout@") if step["with"].get("fetch-depth") == 0]
    if whole and {"--only-group ci", "--only-group watch"} & set(installs):
        assert [checkout.get("filter") for checkout in whole] == ["blob:none"]
        verbs = [step for step in job.steps if "mergeline" in step.get("run", "")]
        assert all("GITHUB_TOKEN" in step["env"] for step in verbs)


def test_a_group_that_a_job_installs_is_one_of_the_project():
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    asked = {step["with"]["install"] for job in WITH_STEPS for step in job.uses("./.github/actions/setup")
             if "install" in step.get("with", {})}  # fmt: skip
    assert {"--only-group ci", "--only-group watch"} <= asked
    assert {words.removeprefix("--only-group ") for words in asked - {"--all-groups"}} <= groups.keys()


def test_what_starts_no_training_is_decided_before_the_job_that_trains():
    """A bump of an action touches no model: `plan`, which installs the base alone, names none, and no job starts."""
    jobs = load(GITHUB / "workflows" / "proposal.yml")["jobs"]
    models = {"flights": scope.ModelPaths(".", ["src/flights", "uv.lock"])}
    places = next(update["directories"] for update in load(GITHUB / "dependabot.yml")["updates"]
                  if update["package-ecosystem"] == "github-actions")  # fmt: skip
    assert places == ["/", "/.github/actions/*"]
    bump = [".github/workflows/deploy.yml", ".github/actions/setup/action.yml"]
    found = scope.decide("a" * 40, bump, models)
    assert (found.models, found.tests, found.check) == ((), True, True)
    assert "no model is made of these files" in found.reason
    assert jobs["reproduce"]["if"] == "needs.plan.outputs.models != '[]'"
    assert jobs["propose"]["needs"] == "reproduce"
    assert "needs.reproduce.result != 'skipped'" in jobs["propose"]["if"]


def test_the_half_hourly_look_installs_nothing_where_nothing_rolls_out():
    found = load(GITHUB / "workflows" / "end-rollout.yml")["jobs"]
    assert not any("setup" in step.get("uses", "") for step in found["look"]["steps"])
    assert found["end"]["needs"] == "look"


def test_a_fork_deploys_nothing():
    deploy = load(GITHUB / "workflows" / "deploy.yml")["jobs"]
    assert deploy["verify"]["if"] == "${{ !github.event.repository.fork }}"
    assert all("verify" in job["needs"] for key, job in deploy.items() if key != "verify")


def test_nothing_is_built_before_it_is_verified_and_its_attestation_checked():
    steps = [step.get("run", "") for step in load(GITHUB / "workflows" / "deploy.yml")["jobs"]["verify"]["steps"]]
    order = [next(i for i, run in enumerate(steps) if f"mergeline {verb}" in run) for verb in ("verify", "ci attested")]
    planned = next(i for i, run in enumerate(steps) if "mergeline ci plan" in run)
    assert order == sorted(order)
    assert planned > max(order)


def test_one_uv_for_people_and_workflows():
    version = re.search(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())[1]
    [setup] = [step for step in load(ACTIONS[0])["runs"]["steps"] if "setup-uv" in step.get("uses", "")]
    assert setup["with"]["version"] == version


def test_everything_is_installed_from_the_lock():
    scripts = " ".join(step["run"] for step in all_steps() if "run" in step)
    assert "uv sync --locked" in scripts
    assert not re.search(r"\b(pip install|npm i|npm install|uvx|uv tool|uv add|curl|wget)\b", scripts)


def test_every_test_that_the_security_page_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) >= 30
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / "engine" / file).read_text()]
    assert missing == []
