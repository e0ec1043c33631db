"""Two processes use one local forge at once."""

import multiprocessing
import sys

import pytest
from local_forge_pushes import push

from forge_with_buttons import ForgeWithButtons
from mergeline.errors import ForgeError

pytestmark = pytest.mark.usefixtures("nobody_is_configured")


def _open(folder, branch):
    ForgeWithButtons(folder).open_or_update(branch, "main", branch, "body")


def _merge(folder, number, results):
    try:
        results.put((number, ForgeWithButtons(folder).merge(number)))
    except ForgeError as error:
        results.put((number, error.what))


class TestTwoProcessesAtOnce:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")

    def run(self, target, arguments):
        processes = [self.context.Process(target=target, args=each) for each in arguments]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0] * len(processes)

    def test_different_branches_get_different_numbers(self, forge, work):
        branches = [f"topic-{letter}" for letter in "abcdef"]
        for branch in branches:
            push(work, forge, branch, branch)

        self.run(_open, [(forge.folder, branch) for branch in branches])

        assert sorted(pull.branch for pull in forge.list_open()) == branches
        assert [pull.number for pull in forge.list_open()] == [1, 2, 3, 4, 5, 6]

    def test_one_branch_is_opened_once(self, forge, work):
        push(work, forge, "topic", "x")

        self.run(_open, [(forge.folder, "topic")] * 4)

        assert [pull.number for pull in forge.list_open()] == [1]

    def test_merges_that_do_not_conflict_all_land(self, forge, work):
        for number in (1, 2, 3, 4):
            push(work, forge, f"topic-{number}", "x", file=f"file-{number}")
            forge.open_or_update(f"topic-{number}", "main", "t", "b")
        results = self.context.Queue()

        self.run(_merge, [(forge.folder, number, results) for number in (1, 2, 3, 4)])

        assert forge.git.run("ls-tree", "--name-only", "main").split() == [
            "file",
            "file-1",
            "file-2",
            "file-3",
            "file-4",
        ]

    def test_one_pull_request_is_merged_once(self, forge, work):
        push(work, forge, "topic", "x")
        forge.open_or_update("topic", "main", "t", "b")
        results = self.context.Queue()

        self.run(_merge, [(forge.folder, 1, results)] * 3)

        said = sorted(results.get(timeout=10)[1] for _ in range(3))
        assert said.count("the pull request is merged") == 2
        assert forge.git.run("rev-list", "--count", "--merges", "main") == "1"
