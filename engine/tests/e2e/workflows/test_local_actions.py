"""What the local Actions make of workflow files, before act runs them."""

import json
import re
import shutil

import pytest
import yaml
from loop_project import ROOT

from local_github.actions import STAND_INS, used_actions
from local_github.expressions import as_expression, in_expressions
from local_github.gfm import render
from local_github.inline import InvalidWorkflowError, flat_jobs
from local_github.permissions import clamp, prepare
from local_github.rules import Rules, merge_refusal, push_refusal, rules_for
from local_github.runner import read_log
from local_github.state import Event
from local_github.triggers import starts

WORKFLOWS = ROOT / ".github" / "workflows"


def event(name, action=None, branch="main", ref="refs/heads/main", **payload):
    return Event("acme/models", name, action, payload, ref, "1" * 40, "1" * 40, branch, "alice")


class TestTriggers:
    @pytest.mark.parametrize(
        ("written", "happened", "expected"),
        [
            ("push", event("push"), True),
            (["push", "pull_request"], event("pull_request", "opened"), True),
            ({"pull_request": None}, event("pull_request", "closed"), False),
            ({"pull_request": {"types": ["closed"]}}, event("pull_request", "closed"), True),
            ({"push": {"branches": ["main"]}}, event("push", branch="topic", ref="refs/heads/topic"), False),
            ({"push": {"branches": ["release/**"]}}, event("push", branch="release/1/2"), True),
            ({"push": {"branches": ["release/*"]}}, event("push", branch="release/1/2"), False),
            ({"push": {"branches": ["**", "!main"]}}, event("push"), False),
            ({"push": {"branches-ignore": ["main"]}}, event("push"), False),
            ({"push": None}, event("push", ref="refs/tags/v1"), False),
            ({"workflow_call": None}, event("push"), False),
        ],
    )
    def test_an_event_starts_what_asks_for_it(self, written, happened, expected):
        assert starts({"on": written}, happened, []) is expected

    def test_paths_count(self):
        workflow = yaml.safe_load("on: {push: {paths: ['src/**', '!src/docs/**']}}")
        assert starts(workflow, event("push"), ["src/model.py"])
        assert not starts(workflow, event("push"), ["src/docs/index.md", "README.md"])

    def test_a_run_starts_what_waits_for_its_workflow(self):
        happened = event("workflow_run", "completed", workflow_run={"name": "model", "head_branch": "topic"})
        assert starts({"on": {"workflow_run": {"workflows": ["model"], "types": ["completed"]}}}, happened, [])
        assert not starts({"on": {"workflow_run": {"workflows": ["checks"]}}}, happened, [])


class TestPermissions:
    def test_a_fork_may_only_read(self):
        assert clamp({"contents": "write", "issues": "none"}, fork=True) == {"contents": "read"}

    def test_each_job_gets_a_token_of_its_own(self, tmp_path):
        job = {"runs-on": "x", "steps": [{"run": "x", "env": {"T": "${{ github.token || secrets.GITHUB_TOKEN }}"}}]}
        workflow = {"name": "w", "on": "push", "permissions": {}, "jobs": {
            "reads": {**job, "permissions": {"contents": "read"}}, "nothing": job}}  # fmt: skip
        (tmp_path / "w.yml").write_text(json.dumps(workflow))
        ready = prepare(tmp_path, "w.yml", {"contents": "write"}, lambda may: f"token-{dict(may)}", fork=False)
        assert ready.granted == {"reads": {"contents": "read"}, "nothing": {}}
        jobs = yaml.safe_load((tmp_path / ready.file).read_text())["jobs"]
        assert jobs["nothing"]["steps"][0]["env"]["T"] == "${{ 'token-{}' || 'token-{}' }}"

    @pytest.mark.parametrize("file", sorted(path.name for path in WORKFLOWS.glob("*.yml")))
    def test_the_templates_own_files_ask_for_no_more_than_they_may(self, file, tmp_path):
        shutil.copytree(WORKFLOWS, tmp_path / "workflows")
        ready = prepare(tmp_path / "workflows", file, {}, lambda may: "token", fork=True)
        assert ready.jobs
        assert "write" not in {level for may in ready.granted.values() for level in may.values()}

    def test_a_called_job_may_not_ask_for_more_than_its_caller(self):
        inner = {"on": "workflow_call", "jobs": {"b": {"permissions": {"contents": "write"}}}}
        outer = {"jobs": {"a": {"permissions": {"contents": "read"}, "uses": "./.github/workflows/inner.yml"}}}
        with pytest.raises(InvalidWorkflowError, match="a / b asks for contents"):
            flat_jobs(outer, lambda name: inner, {})


class TestCalledWorkflows:
    inner = {
        "on": {"workflow_call": {"inputs": {"ref": {"type": "string", "default": "none"}, "of": {"type": "string"}}}},
        "jobs": {
            "one": {"steps": [{"run": "x", "env": {"A": "${{ inputs.ref }}-${{ inputs.of }}-${{ inputs.other }}"}}]},
            "two": {"needs": "one", "if": "always()", "steps": [{"env": {"N": "${{ toJSON(needs) }}"}}]},
        },
    }  # fmt: skip
    outer = {
        "jobs": {
            "call": {"if": "inputs.go", "uses": "./.github/workflows/inner.yml", "with": {"of": "${{ inputs.it }}"}},
            "last": {"needs": "call", "steps": []},
        }
    }

    def jobs(self):
        return flat_jobs(self.outer, lambda name: self.inner, {"contents": "read"})

    def test_they_are_shown_under_their_callers_name(self):
        shown = [job["name"] for job in self.jobs().values() if not job["name"].startswith("local-github")]
        assert shown == ["call / one", "call / two", "last"]

    def test_inputs_are_filled_in(self):
        (step,) = self.jobs()["call__one"]["steps"]
        assert step["env"]["A"] == "${{ ('none') }}-${{ (inputs.it) }}-${{ null }}".replace("{{ ", "{{ ")

    def test_the_callers_condition_holds_for_all(self):
        jobs = self.jobs()
        assert jobs["call__gate"]["if"] == "inputs.go"
        assert jobs["call__two"]["if"] == "${{ !cancelled() && needs.call__gate.result == 'success' && (always()) }}"

    def test_what_was_skipped_before_the_caller_does_not_skip_the_called(self):
        inner = {"jobs": {"a": {}, "b": {"needs": "a"}, "c": {"needs": "a", "if": "failure() || github.actor == 'x'"}}}
        outer = {"jobs": {"pin": {"if": "false"}, "call": {**self.outer["jobs"]["call"], "needs": "pin"}}}
        jobs = flat_jobs(outer, lambda name: inner, {"contents": "read"})
        gate = "!cancelled() && needs.call__gate.result == 'success'"
        assert jobs["call__a"]["if"] == f"${{{{ {gate} && (true) }}}}"
        assert jobs["call__b"]["if"] == f"${{{{ {gate} && (needs.call__a.result == 'success') }}}}"
        failed = "(needs.call__a.result == 'failure') || github.actor == 'x'"
        assert jobs["call__c"]["if"] == f"${{{{ {gate} && ({failed}) }}}}"

    def test_needs_are_told_under_their_own_names(self):
        told = self.jobs()["call__two"]["steps"][0]["env"]["N"]
        assert told.startswith("""${{ format('{{"one": {0}}}',""")
        assert "toJSON(needs.call__one)" in told

    def test_a_skipped_job_has_no_outputs(self):
        jobs = {"a": {}, "b": {"needs": "a", "steps": [{"env": {"X": "${{ needs.a.outputs.x }}"}}]}}
        (step,) = flat_jobs({"jobs": jobs}, dict, {})["b"]["steps"]
        assert step["env"]["X"] == "${{ (needs.a.result != 'skipped' && needs.a.outputs.x || '') }}"

    def test_the_caller_ends_when_all_have(self):
        assert self.jobs()["call"]["needs"] == ["call__gate", "call__one", "call__two"]


class TestExpressions:
    def test_a_condition_needs_no_braces(self):
        assert in_expressions({"if": "a == 1", "run": "a"}, lambda text: text.replace("a", "b")) == {
            "if": "b == 1",
            "run": "a",
        }

    @pytest.mark.parametrize(
        ("value", "expression"),
        [(True, "true"), (3, "3"), (None, "null"), ("it's", "'it''s'"), ("${{ x }}", "x"),
         ("a {b} ${{ x }}", "format('a {{b}} {0}', x)"), ("${{ x }}${{ y }}", "format('{0}{1}', x, y)")],
    )  # fmt: skip
    def test_a_value_has_an_expression(self, value, expression):
        assert as_expression(value) == expression


class TestRules:
    def test_the_templates_own_ruleset_closes_main_alone(self):
        ruleset = json.loads((ROOT / ".github" / "rulesets" / "main.json").read_text())
        main = rules_for([ruleset], "main")
        assert (main.pull_request, main.checks, main.up_to_date, main.no_force) == (True, ("mergeline",), True, True)
        assert rules_for([ruleset], "topic") == Rules()

    def test_a_ruleset_that_is_off_closes_nothing(self):
        ruleset = json.loads((ROOT / ".github" / "rulesets" / "main.json").read_text())
        assert rules_for([{**ruleset, "enforcement": "disabled"}], "main") == Rules()

    @pytest.mark.parametrize("conclusion", ["failure", "cancelled", None])
    def test_only_a_passed_check_lets_a_merge_through(self, conclusion):
        rules = Rules(checks=("gate",))
        assert merge_refusal(rules, {"gate": conclusion}, behind=False, approvals=0)
        assert merge_refusal(rules, {}, behind=False, approvals=0)
        assert merge_refusal(rules, {"gate": "success"}, behind=False, approvals=0) is None

    def test_an_approval_is_waited_for(self):
        assert merge_refusal(Rules(approvals=1), {}, behind=False, approvals=0)
        assert merge_refusal(Rules(approvals=1), {}, behind=False, approvals=1) is None

    def test_a_branch_may_be_deleted_unless_a_rule_says_no(self):
        assert push_refusal(Rules(no_deletion=True), deletes=True, forced=False, creates=False)
        assert push_refusal(Rules(pull_request=True), deletes=True, forced=False, creates=False) is None


class TestActions:
    def test_every_action_of_the_workflow_files_has_a_stand_in(self):
        used = {action for action, _ in used_actions(ROOT)}
        assert used
        assert used <= set(STAND_INS)

    def test_a_log_tells_how_each_job_ended(self):
        lines = [
            {"job": "w/one", "executionTime": 2e9, "stepID": ["0"], "msg": "done"},
            {"job": "w/one", "executionTime": 1e9, "stepID": ["0", "1"], "msg": "inside"},
            {"job": "w/one", "command": "summary", "content": "## Report", "msg": "x"},
            {"job": "w/one", "jobResult": "failure", "msg": "Job failed"},
        ]
        text = "\n".join(json.dumps(line) for line in lines)
        jobs, summary, words = read_log(text, {"w/one": "one", "w/two": "two", "w/local-github x": "local-github x"})
        assert [tuple(job) for job in jobs] == [("one", "failure", 2.0), ("two", "skipped", 0.0)]
        assert summary == "## Report"
        assert "[one] Job failed" in words


class TestMarkdown:
    def test_an_alert_is_one(self):
        html = render("> [!WARNING]\n> Mind **this**.\n\nafter")
        assert '<div class="alert warning">' in html
        assert "[!WARNING]" not in html
        assert "<strong>this</strong>" in html

    def test_tables_and_folded_parts_are_kept(self):
        html = render("<details><summary>More</summary>\n\n| a | b |\n|--|--:|\n| 1 | 2 |\n\n</details>")
        assert "<details><summary>More</summary>" in html
        assert '<td style="text-align:right">2</td>' in html

    @pytest.mark.parametrize(
        "hostile", ["<script>alert(1)</script>", "<iframe src=x></iframe>", '<img src=x onerror="alert(1)">']
    )
    def test_nothing_runs(self, hostile):
        html = render(hostile)
        assert "<script" not in html
        assert "<iframe" not in html
        assert "onerror" not in re.sub(r"&[^;]+;", "", html)

    def test_a_chart_is_drawn(self):
        html = render('```mermaid\nxychart-beta\n  title "T"\n  x-axis "x" 0 --> 1\n  y-axis "y" 0 --> 1\n'
                      "  line [0, 0.5, 1]\n```")  # fmt: skip
        assert "<svg" in html
        assert "<polyline" in html
