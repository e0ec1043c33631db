from __future__ import annotations

import asyncio
import threading
import time
from concurrent import futures

import pytest

from mergeline.requests.problems import RequestError
from mergeline.serve.executors import Executors, QueueLimit

MODEL, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def limit() -> QueueLimit:
    return QueueLimit(2)


@pytest.fixture
def executors(limit):
    executors = Executors(limit)
    yield executors
    executors.stop()


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def test_a_full_queue_sends_one_more_away_and_a_place_is_free_again_after(limit):
    with limit.enter():
        with limit.enter(), pytest.raises(RequestError, match="2 requests are waiting") as caught, limit.enter():
            pass
        assert (caught.value.status, limit.waiting) == (429, 1)
        with limit.enter():
            assert limit.waiting == 2
    assert limit.waiting == 0


def test_what_takes_too_long_is_given_up_with_503_and_leaves_its_place(executors, limit):
    release = threading.Event()

    async def ask() -> None:
        with pytest.raises(RequestError, match="too late") as caught:
            await executors.stable(MODEL, soon(0.05), release.wait)
        assert caught.value.status == 503

    asyncio.run(ask())
    release.set()
    assert limit.waiting == 0


def test_what_has_not_begun_when_it_is_given_up_never_does(executors):
    release, begun = threading.Event(), []

    async def ask() -> None:
        first = asyncio.create_task(executors.stable(MODEL, soon(5), release.wait))
        await asyncio.sleep(0)  # it takes the thread
        with pytest.raises(RequestError):
            await executors.stable(MODEL, soon(0.05), begun.append, 1)
        release.set()
        await first
        assert await executors.stable(MODEL, soon(5), lambda: "in turn") == "in turn"

    asyncio.run(ask())
    assert begun == []


def test_a_candidate_that_hangs_does_not_hold_stable_up(executors):
    release = threading.Event()

    async def ask() -> float:
        hanging = asyncio.create_task(executors.run("candidate", OTHER, soon(1), release.wait))
        await asyncio.sleep(0)
        start = time.perf_counter()
        assert await executors.stable(MODEL, soon(5), lambda: "stable") == "stable"
        seconds = time.perf_counter() - start
        with pytest.raises(TimeoutError):
            await hanging
        return seconds

    assert asyncio.run(ask()) < 0.9
    release.set()


def test_what_is_scored_is_written_though_its_model_hangs_in_the_next_request(executors):
    release = threading.Event()

    async def ask() -> str:
        hanging = asyncio.create_task(executors.run("stable", MODEL, soon(1), release.wait))
        await asyncio.sleep(0)
        async with asyncio.timeout(0.5):
            written = await executors.finish(MODEL, lambda: "written")
        release.set()
        await hanging
        return written

    try:
        assert asyncio.run(ask()) == "written"
    finally:
        release.set()


@pytest.mark.parametrize("role", ["stable", "candidate"])
def test_a_model_that_hangs_for_ever_does_not_hold_the_next_one_up(executors, role):
    release = threading.Event()

    async def ask() -> str:
        with pytest.raises(TimeoutError):
            await executors.run(role, MODEL, soon(0.05), release.wait)
        executors.keep_only({OTHER})
        return await executors.run(role, OTHER, soon(5), lambda: "the next one")

    assert asyncio.run(ask()) == "the next one"
    release.set()


def test_a_model_that_went_still_answers_who_waits_for_it_and_then_its_thread_ends(executors):
    release = threading.Event()

    async def ask() -> tuple[bool, str]:
        first = asyncio.create_task(executors.stable(MODEL, soon(5), release.wait))
        second = asyncio.create_task(executors.stable(MODEL, soon(5), threading.current_thread))
        await asyncio.sleep(0)
        executors.keep_only({OTHER})
        release.set()
        return await first, await second

    answered, thread = asyncio.run(ask())
    assert answered
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "error", [StopIteration(1), GeneratorExit(), SystemExit(3), asyncio.CancelledError(), futures.CancelledError()]
)
def test_what_an_event_loop_takes_amiss_reaches_who_waits_all_the_same(executors, error):
    def fail():
        raise error

    async def ask():
        async with asyncio.timeout(5):
            await executors.finish("model", fail)

    with pytest.raises(RuntimeError, match=type(error).__name__):
        asyncio.run(ask())
