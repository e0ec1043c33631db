"""The files for AWS, by a parser of their language and by checkov; the policies, by what they allow."""

from __future__ import annotations

import json
import re

import pytest
from isolated import EXAMPLES, isolated, ran

pytestmark = pytest.mark.slow

TERRAFORM = EXAMPLES / "terraform"
PARSE = "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))"


@pytest.fixture(scope="module")
def parsed() -> dict:
    told = ran("python", "-c", PARSE, TERRAFORM / "main.tf", packages=("python-hcl2==8.1.4",), cwd=TERRAFORM)
    return json.loads(told)


def plain(value):
    """The parser keeps the quotes of texts."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def statements(parsed: dict, name: str) -> list[dict]:
    """Of a policy document."""
    (found,) = (each["aws_iam_policy_document"][name] for each in plain(parsed["data"])
                if name in each.get("aws_iam_policy_document", {}))  # fmt: skip
    return found["statement"]


def test_each_role_may_do_what_it_needs_and_no_more(parsed):
    reads = {action for each in statements(parsed, "reads") for action in each["actions"]}
    assert reads == {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"}
    writes = statements(parsed, "writes")
    assert not [action for each in writes for action in each["actions"] if "Delete" in action or "*" in action]
    (puts,) = (each for each in writes if "s3:PutObject" in each["actions"])
    assert puts["resources"] == ["${aws_s3_bucket.store.arn}/models/*"]
    deletes = [each for each in statements(parsed, "server") if "s3:DeleteObject" in each["actions"]]
    assert [each["resources"] for each in deletes] == [["${aws_s3_bucket.store.arn}/journal/*"]]
    wide = [each for name in ("reads", "writes", "server") for each in statements(parsed, name)
            if each["resources"] == ["*"]]  # fmt: skip
    assert [each["actions"] for each in wide] == [["ecr:GetAuthorizationToken"]]


def test_only_main_writes_and_the_identity_is_compared_whole(parsed):
    (local,) = (each["subjects"] for each in plain(parsed["locals"]) if "subjects" in each)
    assert local["reads"] == ["repo:${var.repository}:pull_request"]
    assert local["writes"] == ["repo:${var.repository}:ref:refs/heads/main"]
    (trust,) = statements(parsed, "github")
    assert {(each["test"], each["variable"].rpartition(":")[2]) for each in trust["condition"]} == {
        ("StringEquals", "aud"), ("StringEquals", "sub"),
    }  # fmt: skip


def test_checkov_finds_nothing_but_what_has_a_reason(tmp_path):
    done = isolated(
        "checkov", "--directory", TERRAFORM, "--framework", "terraform", "--output", "json", "--quiet",
        "--skip-download",
        packages=("checkov==3.3.30",), cwd=tmp_path,
    )  # fmt: skip
    told = json.loads(done.stdout)
    failed = [(each["check_id"], each["resource"], each["check_name"]) for each in told["results"]["failed_checks"]]
    assert failed == []
    assert told["summary"]["passed"] > 30
    skips = re.findall(r"checkov:skip=(\w+):(.{10,})", (TERRAFORM / "main.tf").read_text())
    assert len(skips) == told["summary"]["skipped"], "a check is skipped without a reason"
