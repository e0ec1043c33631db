"""GitHub on a bad day: what passes is waited out, what stands is told."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from github_examples import Fault, bad_day

from mergeline.errors import ForgeError
from mergeline.github.actions import Job
from mergeline.github.client import GitHubClient, Refusal, needed_permissions, read_refusal, wait_seconds
from mergeline.github.forge import GitHubForge

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. "
    "If you reach out to GitHub Support for help, please include the request ID"
)
PRIMARY = "API rate limit exceeded for installation ID 1."


def refusal(status, message="", **headers):
    return read_refusal(
        status, {"message": message}, {name.replace("_", "-"): value for name, value in headers.items()}
    )


class TestWhatPasses:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_a_server_error_is_tried_again_at_growing_distances(self, status):
        waits = [wait_seconds(refusal(status), attempt, NOW) for attempt in range(7)]

        assert waits == [1, 2, 4, 8, 16, 30, 30]

    @pytest.mark.parametrize("status", [403, 429])
    def test_retry_after_is_kept(self, status):
        assert wait_seconds(refusal(status, SECONDARY, Retry_After="7"), 0, NOW) == 7
        later = format_datetime(NOW + timedelta(seconds=9), usegmt=True)
        assert wait_seconds(refusal(status, SECONDARY, Retry_After=later), 0, NOW) == 9

    def test_a_primary_limit_is_waited_for_until_its_reset(self):
        reset = str(int(NOW.timestamp()) + 40)
        told = refusal(403, PRIMARY, X_RateLimit_Remaining="0", X_RateLimit_Reset=reset)

        assert wait_seconds(told, 0, NOW) == 41

    def test_a_secondary_limit_without_a_time_is_a_minute(self):
        assert wait_seconds(refusal(403, SECONDARY), 0, NOW) == 60
        assert wait_seconds(refusal(429, "slow down"), 0, NOW) == 60

    def test_no_answer_is_tried_again(self):
        assert wait_seconds(Refusal(status=0, message="timed out", headers={}), 0, NOW) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422])
    def test_a_refusal_stands(self, status):
        assert wait_seconds(refusal(status, "Resource not accessible by integration"), 0, NOW) is None


class TestReading:
    def test_every_form_of_an_error_is_read(self):
        data = {
            "message": "Validation Failed",
            "errors": [
                {"resource": "PullRequest", "code": "custom", "message": "A pull request already exists for a:b."},
                {"resource": "PullRequest", "field": "base", "code": "invalid"},
                "plain words",
            ],
        }

        found = read_refusal(422, data, None)

        assert found.message.split("; ") == [
            "Validation Failed",
            "A pull request already exists for a:b.",
            "plain words",
            "base is invalid",
        ]

    @pytest.mark.parametrize("data", [None, "", "<html>502</html>", [], {"errors": None}, {"message": None}])
    def test_a_body_of_another_form_is_no_new_error(self, data):
        assert read_refusal(502, data, {}).message

    def test_githubs_list_of_permissions_is_spelt_as_in_a_workflow_file(self):
        header = "issues=write; pull_requests=write,contents=read"

        assert needed_permissions(header, "pull-requests: write") == "pull-requests: write, contents: read"
        assert needed_permissions(header, "checks: write") == "issues: write"
        assert needed_permissions("", "checks: write") == "checks: write"


class TestOnABadDay:
    @pytest.mark.slow
    def test_errors_and_limits_that_pass_are_not_noticed(self, models):
        number = models.pull()
        faults = [
            Fault("GET", rf"/pulls/{number}$", 502, "Server Error"),
            Fault("GET", rf"/pulls/{number}$", 403, SECONDARY, headers={"Retry-After": "1"}),
            Fault("GET", rf"/issues/{number}/comments", 429, "Too Many Requests", headers={"Retry-After": "1"}),
        ]

        with bad_day(models, *faults) as (urls, _):
            models.forge(patience_seconds=20, **urls).comment(number, "report", "one")

        assert [fault.times for fault in faults] == [0, 0, 0]
        assert len(models.comments(number)) == 1

    def test_a_limit_that_lasts_longer_than_the_patience_is_told_at_once(self, models):
        reset = int(time.time()) + 1800
        headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset)}
        with bad_day(models, Fault("GET", "/pulls/1$", 403, PRIMARY, headers=headers)) as (urls, _):
            start = time.monotonic()
            with pytest.raises(ForgeError, match="rate limit exceeded.*lifted at") as caught:
                models.forge(patience_seconds=120, **urls).get(1)

        assert time.monotonic() - start < 10
        assert f"{datetime.fromtimestamp(reset, UTC):%H:%M:%S} UTC" in caught.value.what

    def test_the_patience_is_one_for_all_tasks(self, models):
        number = models.pull()
        bad = Fault("GET", rf"/pulls/{number}$", 503, "Service Unavailable")
        with bad_day(models, bad) as (urls, _):
            forge = models.forge(patience_seconds=2.5, **urls)
            forge.get(number)  # waits 1 s
            bad.times = 1
            forge.get(number)  # and 1 s
            bad.times = 1
            with pytest.raises(ForgeError, match=r"reading pull request.*status 503"):
                forge.get(number)

    def test_a_server_that_does_not_answer_is_told_with_its_address(self, models):
        with bad_day(models) as (urls, _):
            gone = urls["api_url"]
        forge = models.forge(patience_seconds=1, api_url=gone)

        with pytest.raises(ForgeError, match="no answer from") as caught:
            forge.get(1)

        assert gone in caught.value.what
        assert "GITHUB_API_URL" in caught.value.hint

    def test_a_lost_race_to_open_a_pull_request_is_won_by_both(self, models):
        number = models.pull()
        # between our looking and our opening somebody else opened it: the first listing is empty
        hidden = Fault("GET", r"/pulls\?.*head=", 200)
        hidden.body = []
        with bad_day(models, hidden) as (urls, seen):
            found = models.forge(**urls).open_or_update("topic", "main", "Ours", "b")

        assert found.number == number
        assert ("POST", f"/api/v3/repos/{models.name}/pulls") in seen
        assert models.hub.pull(models.name, number)["title"] == "Ours"

    def test_a_list_that_was_not_filtered_does_not_confuse_branches(self, models):
        theirs, _ = models.fork_pull(branch="topic")
        models.push("topic", "mine\n")
        everything = Fault("GET", r"/pulls\?.*head=", 200, times=9)
        everything.body = models.hub.api.must("GET", f"/repos/{models.name}/pulls", token=models.hub.token("alice"))
        with bad_day(models, everything) as (urls, _):
            forge = models.forge(**urls)

            assert forge.find("topic") is None
            assert forge.open_or_update("topic", "main", "Mine", "b").number != theirs

    def test_a_lost_race_to_make_a_label_is_no_error(self, models):
        models.push("topic", "b\n")
        exists = {"resource": "Label", "code": "already_exists", "field": "name"}
        lost = Fault("POST", "/labels$", 422, "Validation Failed", errors=[exists], done=True)
        with bad_day(models, lost) as (urls, _):
            pull = models.forge(**urls).open_or_update("topic", "main", "T", "b", ["model"])

        assert models.forge().get(pull.number).labels == ("model",)

    def test_a_pull_request_that_was_opened_with_an_error_is_not_opened_twice(self, models):
        models.push("topic", "b\n")
        with bad_day(models, Fault("POST", "/pulls$", 502, "Server Error", done=True)) as (urls, _):
            models.forge(**urls).open_or_update("topic", "main", "T", "b")

        assert len(models.forge().list_open()) == 1

    def test_a_check_that_was_put_with_an_error_is_not_put_twice(self, models):
        commit = models.push("topic", "b\n")
        with bad_day(models, Fault("POST", "/check-runs$", 502, "Server Error", done=True)) as (urls, _):
            models.forge(**urls).check(commit, "mergeline", success=True, title="t", summary="s")

        path = f"/repos/{models.name}/commits/{commit}/check-runs"
        assert len(models.hub.api.must("GET", path, token=models.hub.token("alice"))["check_runs"]) == 1

    def test_a_private_repository_or_a_wrong_name_is_told(self, models):
        forge = GitHubForge(GitHubClient(models.job(), "acme/modles"))

        with pytest.raises(ForgeError, match="Not Found.*may not see it") as caught:
            forge.get(1)

        assert "acme/modles" in caught.value.where
        assert "private" in caught.value.hint


def test_a_persons_error_names_the_scope_instead_of_a_job(models):
    number = models.pull()
    forbidden = Fault("GET", rf"/pulls/{number}$", 403, "Resource not accessible by personal access token")
    with bad_day(models, forbidden) as (urls, _), pytest.raises(ForgeError) as caught:
        models.forge_of("alice", **urls).get(number)

    assert "give the token `pull-requests: read`" in caught.value.hint


def test_a_job_outside_actions_has_no_run():
    assert not Job().run_url
