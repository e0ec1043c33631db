import json
from pathlib import Path

import pytest
from github_examples import Fault, bad_day

from mergeline.evaluate.results import Status
from mergeline.github.client import GitHubClient
from mergeline.github.doctor import examine
from mergeline.github.doctor.here import Here, StoreState
from mergeline.github.doctor.there import (
    Actions,
    Rule,
    Ruleset,
    Settings,
    There,
    Token,
    Unseen,
    Workflow,
    judge_there,
    lacking,
    look_there,
)
from mergeline.params import Params, read_params

ROOT = Path(__file__).parents[3]
FILE = json.loads((ROOT / ".github" / "rulesets" / "main.json").read_text())
HIDDEN = Unseen(reason="GitHub answers 403 to this token", needs="administration: read")


def here(**fields):
    params = read_params(ROOT / "params.yaml")
    usual = {
        "git": "2.40", "remote": "x", "base_branch": True, "params": params,
        "manifest": None, "store": StoreState(url="../store", local=True, answers=True, writable=True),
        "public_key": False, "workflows": ("model.yml", "watch.yml"), "owners": "* @a", "ruleset": FILE,
    }  # fmt: skip
    return Here(**{**usual, **fields})


def signed():
    whole = read_params(ROOT / "params.yaml").model_dump(by_alias=True)
    return Params.model_validate({**whole, "release": {"signing": {"policy": "required"}}})


def there(**fields):
    usual = {
        "name": "acme/models", "server_url": "https://github.com",
        "settings": Settings(full_name="acme/models", default_branch="main"),
        "rules": tuple(Rule(**rule) for rule in FILE["rules"]),
        "rulesets": (Ruleset(id=5, name="main", enforcement="active"),),
        "actions": Actions(enabled=True),
        "token": Token(can_approve_pull_request_reviews=True),
        "secrets": (), "workflows": (Workflow(path=".github/workflows/model.yml", state="active"),),
    }  # fmt: skip
    return There(**{**usual, **fields})


def one(name, seen, clone=None):
    found = [finding for finding in judge_there(seen, clone or here()) if finding.name == name]
    assert len(found) == 1, [finding.name for finding in found]
    return found[0]


def test_a_repository_that_is_set_up_has_no_fault_and_no_doubt():
    found = judge_there(there(), here())

    assert {finding.status for finding in found} <= {Status.PASS, Status.SKIP}


def test_what_cannot_be_seen_is_skipped_with_a_place_to_look():
    hidden = dict.fromkeys(("settings", "rules", "rulesets", "actions", "token", "secrets", "workflows"), HIDDEN)
    found = judge_there(there(**hidden), here(params=signed()))

    skipped = [finding for finding in found if finding.status is Status.SKIP]
    assert {finding.name for finding in skipped} >= {
        "repository",
        "rules of main",
        "actions",
        "pull requests by Actions",
        "secrets",
    }
    assert all("https://github.com/acme/models" in finding.hint for finding in skipped)
    assert not [finding for finding in found if finding.status is Status.FAIL]


@pytest.mark.parametrize(
    ("name", "fields", "status", "hint"),
    [
        ("repository", {"settings": {"archived": True}}, Status.FAIL, "archived=false"),
        ("repository", {"settings": {"fork": True}}, Status.WARN, "Use this template"),
        ("default branch", {"settings": {"default_branch": "master"}}, Status.FAIL, "default_branch=main"),
        ("actions", {"actions": Actions(enabled=False)}, Status.FAIL, "enabled=true"),
        ("actions", {"actions": Actions(enabled=True, allowed_actions="local_only")}, Status.FAIL,
         "allowed_actions=all"),
        ("actions", {"actions": Actions(enabled=True, allowed_actions="selected")}, Status.WARN, "allowed"),
        ("pull requests by Actions",
         {"token": Token(can_approve_pull_request_reviews=False)}, Status.WARN,
         "can_approve_pull_request_reviews=true"),
        ("workflows on GitHub",
         {"workflows": (Workflow(path=".github/workflows/watch.yml", state="disabled_inactivity"),)}, Status.FAIL,
         "gh workflow enable watch.yml"),
    ],
)  # fmt: skip
def test_a_setting_that_is_off_says_how_to_fix_it(name, fields, status, hint):
    if isinstance(fields.get("settings"), dict):
        fields = {"settings": there().settings.model_copy(update=fields["settings"])}

    found = one(name, there(**fields))

    assert found.status is status
    assert hint in found.hint


class TestRules:
    def test_an_existing_ruleset_is_replaced_and_a_missing_one_is_made(self):
        off = (Ruleset(id=5, name="main", enforcement="evaluate"),)

        switched_off = one("rules of main", there(rules=(), rulesets=off))
        missing = one("rules of main", there(rules=(), rulesets=()))

        assert switched_off.value == "the ruleset is evaluate"
        assert switched_off.hint == "gh api -X PUT repos/acme/models/rulesets/5 --input .github/rulesets/main.json"
        assert missing.hint == "gh api -X POST repos/acme/models/rulesets --input .github/rulesets/main.json"
        assert "the rule 'pull_request'" in missing.value

    def test_stricter_rules_are_no_fault(self):
        rules = json.loads(json.dumps(FILE["rules"]))
        for rule in rules:
            if rule["type"] == "pull_request":
                rule["parameters"] |= {"required_approving_review_count": 3, "require_last_push_approval": True}
            if rule["type"] == "required_status_checks":
                rule["parameters"]["required_status_checks"].append({"context": "more"})
        rules.append({"type": "required_signatures"})

        assert lacking(FILE["rules"], [Rule(**rule) for rule in rules]) == ()

    def test_rules_from_several_rulesets_count_together(self):
        halves = [Rule(**rule) for rule in FILE["rules"]]
        halves.append(Rule(type="pull_request", parameters={"required_approving_review_count": 0}))

        assert lacking(FILE["rules"], halves) == ()

    @pytest.mark.parametrize(
        ("kind", "change", "words"),
        [
            ("required_status_checks", {"required_status_checks": []}, "the required check 'mergeline'"),
            (
                "required_status_checks",
                {"required_status_checks": [{"context": "mergeline", "integration_id": None}]},
                "comes from the App 15368",
            ),
            ("required_status_checks", {"strict_required_status_checks_policy": False}, "up to date"),
            ("pull_request", {"required_approving_review_count": 0}, "1 approving review"),
            ("pull_request", {"require_code_owner_review": False}, "a code owner's review"),
        ],
    )
    def test_a_weaker_rule_is_named(self, kind, change, words):
        rules = json.loads(json.dumps(FILE["rules"]))
        next(rule for rule in rules if rule["type"] == kind)["parameters"] |= change

        (found,) = lacking(FILE["rules"], [Rule(**rule) for rule in rules])

        assert words in found

    def test_a_rule_without_parameters_lacks_them_all(self):
        bare = [Rule(type=rule["type"]) for rule in FILE["rules"]]

        assert len(lacking(FILE["rules"], bare)) >= 4


class TestSecrets:
    def test_without_signing_and_with_the_embedded_store_none_is_needed(self):
        assert one("secrets", there()).status is Status.SKIP

    def test_a_missing_one_is_a_fault_with_its_command(self):
        remote = StoreState(url="s3://bucket/models", local=False, answers=True, writable=None)
        clone = here(params=signed(), store=remote)

        found = one("secrets", there(secrets=("STORE_KEY",)), clone)

        assert found.status is Status.FAIL
        assert found.value == "missing: SIGNING_KEY, STORE_KEY_ID"
        assert "gh secret set SIGNING_KEY <" in found.hint
        assert one("secrets", there(secrets=("STORE_KEY", "STORE_KEY_ID", "SIGNING_KEY")), clone).status is Status.PASS

    def test_their_names_are_those_that_the_workflows_take(self):
        from mergeline.github.doctor.there import SIGNING_SECRET, WRITE_SECRETS

        text = (ROOT / ".github" / "workflows" / "model.yml").read_text()

        for name in (SIGNING_SECRET, *WRITE_SECRETS):
            assert f"secrets.{name}" in text


class TestOnGitHub:
    def look(self, models, login="alice", **fields):
        job = models.job(token=models.hub.token(login), **fields)
        return look_there(GitHubClient(job, models.name, patience_seconds=5))

    def test_the_settings_are_read(self, models):
        settings = models.hub.hub.settings[models.name]
        settings.rulesets.append(FILE)
        settings.actions_may_open_pulls = False
        settings.secrets["SIGNING_KEY"] = "x"

        seen = self.look(models)

        assert seen.settings.full_name == models.name
        assert lacking(FILE["rules"], seen.rules) == ()
        assert seen.rulesets[0].name == "main"
        assert seen.token == Token(can_approve_pull_request_reviews=False)
        assert seen.secrets == ("SIGNING_KEY",)

    def test_a_jobs_token_sees_the_rules_and_not_the_administration(self, models):
        models.hub.hub.settings[models.name].rulesets.append(FILE)
        job = models.job({"contents": "read"})

        seen = look_there(GitHubClient(job, models.name, patience_seconds=5))

        assert lacking(FILE["rules"], seen.rules) == ()
        assert isinstance(seen.token, Unseen)
        assert seen.token.needs == "administration: read"

    def test_an_answer_of_another_form_is_unseen_and_no_crash(self, models):
        odd = Fault("GET", "/actions/permissions$", 200)
        odd.body = ["something else"]
        with bad_day(models, odd) as (urls, _):
            seen = self.look(models, **urls)

        assert "another form" in seen.actions.reason

    def test_a_rate_limit_is_not_taken_for_a_missing_permission(self, models):
        limit = Fault("GET", "/actions/permissions$", 403, "slow down", headers={"Retry-After": "1"})
        with bad_day(models, limit) as (urls, _):
            seen = self.look(models, **urls)

        assert seen.actions == Actions(enabled=True)

    def test_the_whole_examination_finds_what_is_off(self, models, monkeypatch):
        monkeypatch.setenv("GITHUB_TOKEN", models.hub.token("alice"))
        monkeypatch.setenv("GITHUB_API_URL", models.hub.api_url)
        models.hub.hub.settings[models.name].actions_enabled = False
        folder = models.clone.folder / ".github" / "rulesets"
        folder.mkdir(parents=True)
        (folder / "main.json").write_text(json.dumps(FILE))

        found = {finding.name: finding for finding in examine(models.clone.folder)}

        assert found["actions"].status is Status.FAIL
        assert found["rules of main"].hint.endswith(f"repos/{models.name}/rulesets --input .github/rulesets/main.json")

    def test_a_wrong_token_is_one_fault(self, models, monkeypatch):
        monkeypatch.setenv("GITHUB_TOKEN", "ghp_nobody")
        monkeypatch.setenv("GITHUB_API_URL", models.hub.api_url)

        last = examine(models.clone.folder)[-1]

        assert last.status is Status.FAIL
        assert "Bad credentials" in last.value
