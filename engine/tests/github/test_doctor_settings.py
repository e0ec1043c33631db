import json
import shutil
from pathlib import Path

import pytest
from github_examples import Fault, bad_day

from mergeline.evaluate.results import Status
from mergeline.github.client import GitHubClient
from mergeline.github.doctor import SIGNING_SECRET, WRITE_SECRETS, examine, examine_settings, lacking, see

ROOT = Path(__file__).parents[3]
FILE = json.loads((ROOT / ".github" / "rulesets" / "main.json").read_text())
HIDDEN = "GitHub answers 403 to this token"
URL = "https://github.com/acme/models"
USUAL = {
    "/": {"full_name": "acme/models", "default_branch": "main"},
    "/rules/branches/main": FILE["rules"],
    "/rulesets": [{"id": 5, "name": "main", "enforcement": "active"}],
    "/actions/permissions": {"enabled": True},
    "/actions/permissions/workflow": {"can_approve_pull_request_reviews": True},
    "/actions/secrets": {"secrets": []},
}


@pytest.fixture
def clone(tmp_path):
    """The template's own files."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=lambda folder, names: {*names} - {"config"})
    return tmp_path


def judged(clone, **answers):
    """What is found where GitHub gives these answers, by the path with its name's last word, and the usual others."""
    told = {path: answers.get(path.rpartition("/")[2] or "repository", usual) for path, usual in USUAL.items()}
    return list(examine_settings(lambda path, needs: told[path.partition("?")[0]], URL, clone))


def one(name, clone, **answers):
    found = [finding for finding in judged(clone, **answers) if finding.name == name]
    assert len(found) == 1, [finding.name for finding in found]
    return found[0]


def sign_and_store_away(clone):
    for file, old, new in (
        ("params.yaml", 'policy: "off"', "policy: required"),
        (".dvc/config", "../store", "s3://bucket/models"),
    ):
        text = (clone / file).read_text()
        assert old in text
        (clone / file).write_text(text.replace(old, new))


def test_a_repository_that_is_set_up_has_no_fault_and_no_doubt(clone):
    assert {finding.status for finding in judged(clone)} <= {Status.PASS, Status.SKIP}


def test_what_cannot_be_seen_is_skipped_with_a_place_to_look(clone):
    sign_and_store_away(clone)
    found = judged(clone, **dict.fromkeys(("repository", *(path.rpartition("/")[2] for path in USUAL)), HIDDEN))

    assert {finding.name for finding in found} == {
        "repository",
        "default branch",
        "rules of main",
        "actions",
        "pull requests by Actions",
        "secrets",
    }
    assert {(finding.status, finding.value) for finding in found} == {(Status.SKIP, HIDDEN)}
    assert all(URL in finding.hint for finding in found)


@pytest.mark.parametrize(
    ("name", "answers", "status", "hint"),
    [
        ("repository", {"repository": USUAL["/"] | {"archived": True}}, Status.FAIL, "archived=false"),
        ("repository", {"repository": USUAL["/"] | {"fork": True}}, Status.WARN, "Use this template"),
        ("default branch", {"repository": {"default_branch": "master"}}, Status.FAIL, "default_branch=main"),
        ("actions", {"permissions": {"enabled": False}}, Status.FAIL, "enabled=true"),
        ("actions", {"permissions": {"enabled": True, "allowed_actions": "local_only"}}, Status.FAIL,
         "allowed_actions=all"),
        ("actions", {"permissions": {"enabled": True, "allowed_actions": "selected"}}, Status.WARN, "allowed"),
        ("pull requests by Actions", {"workflow": {"can_approve_pull_request_reviews": False}}, Status.WARN,
         "can_approve_pull_request_reviews=true"),
    ],
)  # fmt: skip
def test_a_setting_that_is_off_says_how_to_fix_it(clone, name, answers, status, hint):
    found = one(name, clone, **answers)

    assert found.status is status
    assert hint in found.hint


class TestRules:
    def test_an_existing_ruleset_is_replaced_and_a_missing_one_is_made(self, clone):
        off = [{"id": 5, "name": "main", "enforcement": "evaluate"}]

        switched_off = one("rules of main", clone, main=[], rulesets=off)
        missing = one("rules of main", clone, main=[], rulesets=[])

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

        assert lacking(FILE["rules"], rules) == ()

    def test_rules_from_several_rulesets_count_together(self):
        halves = list(FILE["rules"])
        halves.append({"type": "pull_request", "parameters": {"required_approving_review_count": 0}})

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

        (found,) = lacking(FILE["rules"], rules)

        assert words in found

    def test_a_rule_without_parameters_lacks_them_all(self):
        bare = [{"type": rule["type"]} for rule in FILE["rules"]]

        assert len(lacking(FILE["rules"], bare)) >= 4


class TestSecrets:
    def test_without_signing_and_with_the_embedded_store_none_is_needed(self, clone):
        assert one("secrets", clone).status is Status.SKIP

    def test_a_missing_one_is_a_fault_with_its_command(self, clone):
        sign_and_store_away(clone)
        names = [{"name": name} for name in ("STORE_KEY", "STORE_KEY_ID", "SIGNING_KEY")]

        found = one("secrets", clone, secrets={"secrets": names[:1]})

        assert found.status is Status.FAIL
        assert found.value == "missing: SIGNING_KEY, STORE_KEY_ID"
        assert "gh secret set SIGNING_KEY <" in found.hint
        assert one("secrets", clone, secrets={"secrets": names}).status is Status.PASS

    def test_their_names_are_those_that_the_workflows_take(self):
        text = (ROOT / ".github" / "workflows" / "model.yml").read_text()

        for name in (SIGNING_SECRET, *WRITE_SECRETS):
            assert f"secrets.{name}" in text


class TestOnGitHub:
    @pytest.fixture
    def found(self, models, clone):
        """What is found of the repository's settings, by name, as a token sees them."""

        def found(job):
            client = GitHubClient(job, models.name, patience_seconds=5)
            settings = examine_settings(lambda path, needs: see(client, path, needs), URL, clone)
            return {finding.name: finding for finding in settings}

        return found

    def job(self, models, **fields):
        return models.job(token=models.hub.token("alice"), **fields)

    def test_the_settings_are_read(self, models, clone, found):
        settings = models.hub.hub.settings[models.name]
        settings.rulesets.append(FILE)
        settings.actions_may_open_pulls = False
        settings.secrets["SIGNING_KEY"] = "x"
        sign_and_store_away(clone)

        seen = found(self.job(models))

        assert seen["repository"].value == models.name
        assert seen["rules of main"].status is Status.PASS
        assert seen["pull requests by Actions"].status is Status.WARN
        assert seen["secrets"].value == "missing: STORE_KEY_ID, STORE_KEY"

    def test_a_jobs_token_sees_the_rules_and_not_the_administration(self, models, found):
        models.hub.hub.settings[models.name].rulesets.append(FILE)

        seen = found(models.job({"contents": "read"}))

        assert seen["rules of main"].status is Status.PASS
        assert seen["pull requests by Actions"].status is Status.SKIP
        assert "`administration: read`" in seen["pull requests by Actions"].hint

    def test_an_answer_of_another_form_is_unseen_and_no_crash(self, models, found):
        odd = Fault("GET", "/actions/permissions$", 200)
        odd.body = ["something else"]
        with bad_day(models, odd) as (urls, _):
            seen = found(self.job(models, **urls))

        assert "another form" in seen["actions"].value

    def test_a_rate_limit_is_not_taken_for_a_missing_permission(self, models, found):
        limit = Fault("GET", "/actions/permissions$", 403, "slow down", headers={"Retry-After": "1"})
        with bad_day(models, limit) as (urls, _):
            seen = found(self.job(models, **urls))

        assert seen["actions"].status is Status.PASS

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
