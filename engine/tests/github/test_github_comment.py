"""One comment of ours on a pull request, whoever writes it and whatever others write."""

import threading

import pytest
from github_examples import ALL, Fault, bad_day

from mergeline.errors import ForgeError
from mergeline.github.comment import (
    About,
    Comment,
    compose,
    marker,
    ours,
    read_about,
    watermark_title,
    why_not_cml,
)

HEAD = "a" * 40


def bodies(models, number):
    return [comment["body"] for comment in models.comments(number)]


class TestOnGitHub:
    def test_it_is_written_once_and_then_updated(self, models):
        number = models.pull()

        models.forge().comment(number, "report", "## First")
        models.forge().comment(number, "report", "## Second")

        (body,) = bodies(models, number)
        assert body.startswith("<!-- mergeline:report -->\n")
        assert "## Second" in body
        assert "First" not in body

    def test_two_keys_are_two_comments(self, models):
        number = models.pull()

        models.forge().comment(number, "report", "one")
        models.forge().comment(number, "report-2", "two")
        models.forge().comment(number, "report", "one again")

        assert len(bodies(models, number)) == 2
        assert models.forge().has_comment(number, "report-2")
        assert not models.forge().has_comment(number, "report-3")

    def test_it_is_found_behind_a_hundred_others(self, models):
        number = models.pull()
        for count in range(105):
            models.say(number, f"comment {count}")
        models.forge().comment(number, "report", "one")

        models.forge().comment(number, "report", "two")

        assert len(bodies(models, number)) == 106
        assert "two" in bodies(models, number)[-1]

    def test_a_persons_comment_with_a_copied_marker_is_never_taken_over(self, models):
        number = models.pull()
        copied = compose("report", "I approve of myself", About(head=HEAD))
        models.say(number, copied, by="bob")

        models.forge().comment(number, "report", "the report")

        first, second = bodies(models, number)
        assert first == copied
        assert "the report" in second

    def test_a_marker_further_down_does_not_make_a_comment_ours(self, models):
        number = models.pull()
        path = f"/repos/{models.name}/issues/{number}/comments"
        quoting = f"> {marker('report')}\n\nquoted by another bot"
        models.hub.api.must("POST", path, {"body": quoting}, token=models.job().token)

        models.forge().comment(number, "report", "the report")

        assert bodies(models, number)[0] == quoting

    def test_a_person_goes_on_with_the_comment_that_the_bot_began(self, models):
        number = models.pull()
        models.forge().comment(number, "report", "by the job")

        models.forge_of("alice").comment(number, "report", "by alice")

        (body,) = bodies(models, number)
        assert "by alice" in body

    def test_ours_is_updated_by_the_person_who_wrote_it(self, models):
        number = models.pull()

        models.forge_of("alice").comment(number, "report", "one")
        models.forge_of("alice").comment(number, "report", "two")

        assert len(bodies(models, number)) == 1

    def test_the_same_words_again_write_nothing(self, models):
        number = models.pull()
        models.forge().comment(number, "report", "one")
        with bad_day(models) as (urls, seen):
            models.forge(**urls).comment(number, "report", "one")

        assert {method for method, _ in seen} == {"GET"}

    def test_a_comment_that_two_runs_made_at_once_is_one_again(self, models):
        number = models.pull()
        path = f"/repos/{models.name}/issues/{number}/comments"
        for text in ("first run", "second run"):
            body = {"body": compose("report", text, About(head=HEAD))}
            models.hub.api.must("POST", path, body, token=models.job().token)

        models.forge().comment(number, "report", "third run")

        (body,) = bodies(models, number)
        assert "third run" in body

    def test_many_at_once_leave_one(self, models):
        number = models.pull()
        models.forge().comment(number, "report", "before")
        threads = [
            threading.Thread(target=models.forge().comment, args=(number, "report", f"run {count}"))
            for count in range(4)
        ]

        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(bodies(models, number)) == 1

    def test_a_comment_that_github_took_with_an_error_is_not_doubled(self, models):
        number = models.pull()
        lost = Fault("POST", rf"/issues/{number}/comments$", 502, "Server Error", done=True)

        with bad_day(models, lost) as (urls, _):
            models.forge(**urls).comment(number, "report", "one")

        assert lost.times == 0
        assert len(bodies(models, number)) == 1

    def test_an_overlong_text_can_still_be_posted(self, models):
        number = models.pull()

        models.forge().open_or_update("topic", "main", "T", "word " * 200_000)

        body = models.hub.pull(models.name, number)["body"]
        assert len(body) <= 60_000
        assert "left out" in body

    def test_a_key_that_is_no_word_is_refused(self, models):
        with pytest.raises(ForgeError, match="cannot name a comment"):
            models.forge().comment(models.pull(), "a --> b", "x")

    def test_permissions_for_issues_are_not_needed(self, models):
        number = models.pull()

        models.forge({name: ALL[name] for name in ("pull-requests",)}).comment(number, "report", "x")

        assert len(bodies(models, number)) == 1


def comment(number, body, *, author="github-actions[bot]", is_bot=True):
    return Comment(id=number, author=author, is_bot=is_bot, body=body)


def others(count, first=1):
    return [comment(number, "hello", author="alice", is_bot=False) for number in range(first, first + count)]


class TestFinding:
    def test_the_body_says_what_it_is_about(self):
        about = About(head=HEAD, run="12.3")

        assert read_about(comment(1, compose("report", "x", about))) == about
        assert read_about(comment(1, compose("report", "x", about).replace("\n", "\r\n"))) == about
        assert read_about(comment(1, "hello")) == About()

    def test_what_stands_in_the_text_says_nothing(self):
        text = f"<!-- about head={'b' * 40} run=9.9 -->"

        assert read_about(comment(1, compose("report", text, About(head=HEAD)))) == About(head=HEAD)

    def test_only_bots_are_ours_where_nobody_can_be_asked_for(self):
        body = compose("report", "x", About(head=HEAD))
        found = [comment(1, body, author="alice", is_bot=False), comment(2, body)]

        assert [one.id for one in ours(found, "report", None)] == [2]
        assert [one.id for one in ours(found, "report", "alice")] == [1, 2]


class TestWhetherCmlMayWrite:
    ours = compose("report", "x", About(head=HEAD))

    def test_nothing_stands_against_a_first_comment_or_the_one_that_it_finds(self):
        assert why_not_cml([], "report", None) is None
        assert why_not_cml(others(29), "report", None) is None
        assert why_not_cml([*others(29), comment(30, self.ours)], "report", None) is None

    def test_it_does_not_see_beyond_thirty(self):
        assert "beyond the first 30" in why_not_cml([*others(30), comment(31, self.ours)], "report", None)

    def test_it_would_not_find_its_own_again_where_there_are_thirty(self):
        assert "30 comments" in why_not_cml(others(30), "report", None)

    def test_it_would_write_over_whoever_copied_its_watermark(self):
        theirs = comment(9, f"> quoted\n{self.ours}", author="bob", is_bot=False)

        assert "bob" in why_not_cml([comment(1, self.ours), theirs], "report", None)
        assert "bob" in why_not_cml([theirs], "report", None)
        # it takes the last one: ours, here
        assert why_not_cml([theirs, comment(10, self.ours)], "report", None) is None

    def test_it_would_begin_anew_where_its_watermark_is_gone(self):
        without = comment(1, self.ours.rpartition("![](")[0])

        assert "watermark" in why_not_cml([without], "report", None)

    def test_another_keys_watermark_is_another_comment(self):
        assert why_not_cml([comment(1, compose("report-2", "x", About(head=HEAD)))], "report", None) is None

    def test_the_watermark_always_names_a_commit(self):
        # CML never finds one without again
        assert f"#{'0' * 40} " in compose("report", "x", About())

    def test_the_title_needs_no_escape(self):
        assert not set(watermark_title("report-2")) & set("_*[<")
