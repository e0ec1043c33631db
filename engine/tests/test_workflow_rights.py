"""What a workflow may do: permissions, secrets, caches, and whose code runs beside them."""

import json
import re

from workflow_files import (
    ACTIONS,
    GITHUB,
    JOBS,
    MAIN,
    WITH_STEPS,
    WORKFLOWS,
    all_steps,
    each_job,
    each_job_with_steps,
    each_workflow,
    load,
    triggers,
)

KNOWN_OWNERS = {"actions", "astral-sh", "docker", "iterative"}


STORE_WRITERS = {"STORE_KEY_ID", "STORE_KEY", "SIGNING_KEY"}


@each_workflow
def test_a_workflow_gives_no_permission_by_itself(path):
    assert load(path)["permissions"] == {}


@each_job
def test_a_job_names_its_permissions_and_itself(job):
    assert isinstance(job.body["permissions"], dict)
    assert job.body["name"]


@each_workflow
def test_each_permission_says_what_it_is_for(path):
    lines = path.read_text().splitlines()
    inside, checked = None, 0
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if inside is not None and indent <= inside:
            inside = None
        if inside is not None:
            assert re.search(r": (read|write) # \w+ \w+", line), line
            checked += 1
        if line.strip() == "permissions:":
            inside = indent
    assert checked >= len(load(path)["jobs"])


def test_no_expression_stands_in_a_script():
    scripts = [step["run"] for step in all_steps() if "run" in step]
    assert scripts
    assert not [script for script in scripts if "${{" in script]


def test_actions_are_pinned_to_one_commit_each_of_known_owners():
    pins = {}
    for path in [*WORKFLOWS, *ACTIONS]:
        for target, comment in re.findall(r"uses: (\S+)(?: # (\S+))?", path.read_text()):
            if target.startswith("./"):
                continue
            name, _, commit = target.partition("@")
            assert name.split("/")[0] in KNOWN_OWNERS, name
            assert re.fullmatch(r"[0-9a-f]{40}", commit), target
            assert re.fullmatch(r"v\d+\.\d+\.\d+", comment), target
            pins.setdefault(name, set()).add((commit, comment))
    assert len(pins) >= 6
    assert {name: pin for name, pin in pins.items() if len(pin) > 1} == {}


def test_no_checkout_leaves_credentials_behind():
    checkouts = [step for step in all_steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) >= len(WITH_STEPS) - 2  # the jobs mergeline and record run no code at all
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@each_job_with_steps
def test_a_job_that_may_write_takes_nothing_from_a_cache(job):
    if job.writes or "secrets.STORE_KEY" in json.dumps(job.body):
        assert not job.uses("actions/cache")
        assert all("cache" not in step.get("with", {}) for step in job.uses("./.github/actions/setup"))


def test_code_of_a_branch_never_writes_to_the_caches_of_main():
    """A run by hand has main's caches whatever it checks out; those of a pull request are its own."""
    asked = {
        job.file: step["with"]["cache"]
        for job in WITH_STEPS
        for step in job.uses("./.github/actions/setup")
        if "cache" in step.get("with", {})
    }
    assert asked == {
        "proposal.yml": "${{ github.event_name == 'pull_request' }}",
        "checks.yml": "${{ github.event_name == 'pull_request' }}",
        "deploy.yml": "true",  # what is on main, after it was merged
    }


@each_job_with_steps
def test_a_job_that_may_write_runs_main_and_never_the_branch(job):
    if job.writes:
        on_push = set(triggers(load(GITHUB / "workflows" / job.file))) == {"push"}
        checkouts = job.uses("actions/checkout@")
        assert checkouts
        assert all(on_push or step["with"].get("ref") == MAIN for step in checkouts)


def test_the_branch_s_code_meets_no_right_to_write_and_no_secret_but_reading_the_store():
    job = next(job for job in JOBS if (job.file, job.key) == ("proposal.yml", "reproduce"))
    assert job.body["permissions"] == {"contents": "read"}
    assert set(re.findall(r"secrets\.(\w+)", json.dumps(job.body))) == {"STORE_READ_KEY_ID", "STORE_READ_KEY"}
    assert "github.token" not in json.dumps(job.body)


def test_what_writes_to_the_store_and_signs_is_in_one_job_alone():
    holders = {
        (job.file, job.key) for job in WITH_STEPS if STORE_WRITERS & set(re.findall(r"secrets\.(\w+)", str(job.body)))
    }
    assert holders == {("proposal.yml", "propose")}


def test_the_program_without_a_checksum_is_where_no_right_but_commenting_is():
    holders = [job for job in WITH_STEPS if any("cml" in step.get("with", {}) for step in job.steps)]
    assert holders
    assert all(job.writes == {"pull-requests"} for job in holders)
    assert not any("id-token" in job.body["permissions"] for job in holders)


def test_secrets_are_handed_on_by_name():
    assert [job.body["secrets"] for job in JOBS if "secrets" in job.body]
    assert not [job for job in JOBS if job.body.get("secrets") == "inherit"]


def test_the_ruleset_lets_nobody_push_force_or_delete():
    ruleset = json.loads((GITHUB / "rulesets" / "main.json").read_text())
    rules = {rule["type"]: rule.get("parameters", {}) for rule in ruleset["rules"]}
    assert ruleset["bypass_actors"] == []
    assert ruleset["enforcement"] == "active"
    assert {"deletion", "non_fast_forward", "pull_request"} <= rules.keys()
    assert rules["pull_request"]["require_code_owner_review"]
    assert rules["pull_request"]["dismiss_stale_reviews_on_push"]
    assert rules["required_status_checks"]["strict_required_status_checks_policy"]


def test_what_reads_the_journal_may_push_nothing_unless_it_runs_main_s_verb_alone():
    holders = {(job.file, job.key): job for job in WITH_STEPS if "secrets.JOURNAL_KEY" in str(job.body)}
    assert set(holders) == {("watching.yml", "judge"), ("end-rollout.yml", "end"), ("promote.yml", "promote")}
    assert "contents" not in holders["watching.yml", "judge"].writes
