"""Production's history, and the page that tells it."""

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from release_examples import release

from mergeline.documents import parse
from mergeline.manifest.edit import abort, empty_manifest, lift_hold, promote, rollback
from mergeline.manifest.schema import Manifest
from mergeline.release.history import Event, Revision, history
from mergeline.release.page import Place, Served, report_name, write_overview, write_page
from mergeline.release_params import Rollout

CANARY = Rollout.model_validate({"strategy": "canary", "steps": [{"weight": 20, "hold": "1h"}]})
PLACE = Place(server_url="https://github.com", repository="acme/flights")


class Past:
    """The manifest's states, one commit a day."""

    def __init__(self, name="flights"):
        self.revisions = []
        self.text = empty_manifest(name)
        self.commit("Start")

    def commit(self, subject, text=None, **fields):
        self.text = text if text is not None else self.text
        day = datetime(2026, 9, 1, 8, 30, tzinfo=UTC) + timedelta(days=len(self.revisions))
        commit = f"{len(self.revisions) + 10:040x}"
        self.revisions.append(Revision(commit=commit, when=day, subject=subject, text=self.text, **fields))
        return self

    def release(self, version, subject=None, **fields):
        subject = subject or f"flights: version {version} (#{version + 10})"
        made = release(version, pull=version + 10, **fields)
        return self.commit(subject, promote(self.text, made))

    @property
    def manifest(self):
        return parse(self.text, Manifest, "manifest")

    @property
    def moments(self):
        return history(self.revisions, "flights")


class TestHistory:
    def test_the_holds_that_an_environment_begins_with_are_not_its_own_news(self):
        text = rollback(promote(promote(empty_manifest("flights"), release(1)), release(2)), "charged twice", pull=7)
        past = Past()
        past.revisions.clear()
        past.commit("flights: version 3", promote(text, release(3, pull=12)))
        (first,) = past.moments
        assert (first.event, first.serving.version, first.pull, first.reasons) == (Event.FIRST, 3, 12, ())

    def test_each_merge_says_what_it_did(self):
        past = Past().release(1).release(2)
        past.commit("Roll back (#20)", rollback(past.text, "late flights were missed"))
        past.commit("Lift the hold (#21)", lift_hold(past.text, release(2).digest))
        events = [(moment.event, moment.serving.version, moment.pull) for moment in past.moments]
        assert events == [
            (Event.LIFT, 1, 21),
            (Event.ROLLBACK, 1, 20),
            (Event.RELEASE, 2, 12),
            (Event.FIRST, 1, 11),
        ]

    def test_a_rollback_tells_its_reason_once(self):
        past = Past().release(1).release(2)
        past.commit("Roll back", rollback(past.text, "late flights were missed")).release(3)
        assert [moment.reasons for moment in past.moments] == [(), ("late flights were missed",), (), ()]

    def test_a_candidate_is_told_with_its_strategy_and_so_is_its_end(self):
        past = Past().release(1)
        past.commit("Try (#12)", promote(past.text, release(2), CANARY))
        past.commit("Off (#13)", abort(past.text, "it was slow"))
        off, rollout, _ = past.moments
        assert (rollout.event, rollout.candidate.version, rollout.strategy, rollout.ended) == (
            Event.ROLLOUT, 2, "canary", None
        )  # fmt: skip
        assert (off.event, off.candidate, off.ended, off.serving.version) == (Event.HOLD, None, 2, 1)

    def test_commits_that_change_words_alone_are_left_out(self):
        past = Past().release(1)
        past.commit("A note", past.text.replace("annotations: {}", "annotations: {owner: us}"))
        assert len(past.moments) == 1

    def test_the_template_s_own_past_is_not_ours(self):
        past = Past("other")
        past.commit("Their model", promote(past.text, release(1)))
        past.commit("Ours now", empty_manifest("flights")).release(1)
        assert [moment.event for moment in past.moments] == [Event.FIRST]

    @pytest.mark.parametrize("text", [None, "", "spec: [", "apiVersion: mergeline/v0\n"])
    def test_states_that_cannot_be_read_are_passed_over(self, text):
        past = Past().release(1)
        past.revisions.append(past.revisions[-1].model_copy(update={"text": text}))
        past.release(2)
        assert [moment.event for moment in past.moments] == [Event.RELEASE, Event.FIRST]

    def test_a_manifest_put_back_by_hand_is_a_rollback(self):
        past = Past().release(1)
        before = past.text
        past.release(2).commit('Revert "version 2"', before)
        assert past.moments[0].event is Event.ROLLBACK

    @pytest.mark.parametrize(
        ("subject", "pull"),
        [
            ("Merge pull request #7 from acme/trees", 7),
            ("More trees (#8)", 8),
            ("Fixes #9 at last", 11),
            ("(#10) at the start", 11),
        ],
    )
    def test_the_pull_request_is_read_from_what_github_writes(self, subject, pull):
        assert Past().release(1, subject).moments[0].pull == pull

    def test_a_merge_commit_is_undone_towards_its_first_parent(self):
        past = Past()
        past.commit("Merge pull request #11 from us/x", promote(past.text, release(1)), merge=True)
        assert past.moments[0].undo()[-1] == f"git revert -m 1 {past.revisions[-1].commit[:12]}"

    def test_a_rollback_is_the_first_way_to_undo_a_release_and_a_revert_the_second(self):
        past = Past().release(1).release(2)
        commit = past.revisions[-1].commit[:12]
        rolled = "mergeline rollback --pull-request --to 1 'what failed'"
        assert past.moments[0].undo() == (rolled, f"git revert {commit}")
        assert past.moments[1].undo() == (f"git revert {past.revisions[-2].commit[:12]}",)
        page = write_page(past.manifest, past.moments, PLACE, set())
        assert page.index("rollback --pull-request --to 1") < page.index(f"git revert {commit}")

    def test_of_several_models_each_command_names_the_one(self):
        past = Past().release(1).release(2)
        rolled = "mergeline rollback --model fraud --pull-request --to 1 'what failed'"
        assert past.moments[0].undo("fraud")[0] == rolled
        on_github = write_page(past.manifest, past.moments, PLACE, set(), model="fraud")
        assert "--field model=fraud" in Elements(on_github).text
        assert "rollback --model fraud --pull-request --to 1" in on_github
        elsewhere = write_page(past.manifest, past.moments, Place(), set(), model="fraud")
        assert "mergeline rollback --model fraud --pull-request 'what failed'" in Elements(elsewhere).text

    def test_a_model_without_a_history_has_a_page(self):
        past = Past().release(1)
        assert "version 1" in write_page(past.manifest, (), PLACE, set())


class Elements(HTMLParser):
    """The tags of a page, its links, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in {"href", "src"}]

    def handle_data(self, data):
        self.text += data


def page_of(past, place=PLACE, reports=()):
    return Elements(write_page(past.manifest, past.moments, place, reports))


class TestPage:
    def test_it_says_what_serves_since_when_and_how_to_take_it_back(self):
        page = page_of(Past().release(1).release(2))
        assert "Serving: flights version 2" in " ".join(page.text.split())
        assert "3 Sep 2026, 08:30 UTC" in page.text
        assert "gh workflow run rollback.yml --repo acme/flights --field reason='what failed'" in page.text

    def test_it_links_pull_requests_commits_and_the_reports_that_are_there(self):
        past = Past().release(1).release(2)
        page = page_of(past, reports={report_name(release(2).digest)})
        assert "https://github.com/acme/flights/pull/12" in page.links
        assert [link for link in page.links if link.startswith("reports/")] == [report_name(release(2).digest)] * 2

    def test_outside_github_nothing_is_a_link(self):
        page = page_of(Past().release(1).release(2), place=Place())
        assert page.links == []
        assert "mergeline rollback --pull-request" in page.text

    def test_what_is_held_stands_above_the_history(self):
        past = Past().release(1).release(2)
        past.commit("Roll back", rollback(past.text, "late flights were missed"))
        page = page_of(past)
        assert page.text.index("Not proposed again") < page.text.index("late flights were missed")
        assert page.text.index("late flights were missed") < page.text.index("History")

    def test_words_of_people_stay_words(self):
        past = Past().release(1).release(2)
        past.commit("Roll back", rollback(past.text, "<script>alert(1)</script> & \u202eevil"))
        html = write_page(past.manifest, past.moments, PLACE, ())
        assert "script" not in Elements(html).tags
        assert "\u202e" not in html
        assert "&lt;script&gt;" in html

    def test_gains_on_the_same_rows_are_drawn_and_no_metrics_of_different_rows(self):
        past = Past().release(1).release(2, metrics={"gain": 0.01, "roc_auc": 0.76})
        assert "Gain of each version" not in page_of(past).text
        past.release(3, metrics={"gain": 0.02, "roc_auc": 0.62})
        page = page_of(past)
        assert "Gain of each version over the model before" in page.text
        assert "gain in the gate's metric" in page.text

    def test_the_timeline_shows_what_was_stable_and_what_rolled_out_beside_it(self):
        past = Past().release(1)
        past.commit("Try (#12)", promote(past.text, release(2), CANARY))
        html = write_page(past.manifest, past.moments, PLACE, ())
        timeline = html[html.index("timeline-desc") :]
        assert timeline.count('<rect class="served" x=') == 2
        assert timeline.count('<rect class="tried" x=') == 1
        assert "version 2: canary, next to version 1" in timeline
        assert "version 2 as canary" in html

    def test_versions_with_other_metrics_share_a_table_and_no_line(self):
        past = Past().release(1, metrics={"roc_auc": 0.7}).release(2, metrics={"mean_absolute_error": 12.0})
        page = page_of(past)
        assert "Gain of each version" not in page.text
        assert "roc_auc" in page.text
        assert "mean_absolute_error" in page.text

    def test_before_the_first_release_it_says_so(self):
        assert "serves nothing yet" in page_of(Past()).text

    def test_it_fetches_nothing_and_runs_nothing(self):
        html = write_page(Past().release(1).manifest, Past().release(1).moments, PLACE, ())
        assert "default-src 'none'" in html
        assert {"script", "img", "link", "iframe"}.isdisjoint(Elements(html).tags)


class TestTheOverviewOfSeveralModels:
    def test_each_has_a_row_with_what_serves_since_when_and_how_it_does(self):
        past = Past().release(1).release(2)
        page = write_overview(
            {
                "flights": Served(past.manifest, past.moments, "degraded: roc_auc fell by 0.04"),
                "fraud": Served(parse(empty_manifest("fraud"), Manifest, "manifest"), ()),
            }
        )
        assert "1 of 2 models are serving" in page
        assert '<a href="flights/">flights</a>' in page
        assert "3 Sep 2026" in page
        assert "degraded: roc_auc fell by 0.04" in page
        assert "<td>none</td>" in page
        assert "<script" not in page
