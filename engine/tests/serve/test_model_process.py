from __future__ import annotations

import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from serve_samples import make_model, wrap_pipeline

from mergeline.errors import ModelError, UntrustedTypeError
from mergeline.model.artifact import is_compiled, load_model
from mergeline.params import Task
from mergeline.serve.model_process import ModelProcess, score_rows

ROWS = [(12.5, 8, False, "JFK", "UA"), (float("nan"), 23, True, "EWR", None), (-3.0, 0, float("nan"), "JFK", "AA")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, compiled in (("compiled", True), ("plain", False)):
        make_model(root / name, compiled=compiled)
    for task in (Task.MULTICLASS, Task.REGRESSION):
        make_model(root / task.value, task=task)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def hostile(folders, tmp_path, monkeypatch):
    """The folder of a hostile model, and the file that it takes its orders from."""
    shutil.copy(Path(__file__).with_name("hostile_model.py"), tmp_path / "hostile.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    from hostile import Hostile

    orders = tmp_path / "orders"
    make_model(tmp_path / "model")
    wrap_pipeline(tmp_path / "model", lambda inner: Hostile(inner, str(orders)))
    yield tmp_path / "model", orders
    sys.modules.pop("hostile", None)


@pytest.fixture
def started():
    made: list[ModelProcess] = []

    def start(folder: Path, trusted: tuple[str, ...] = ("hostile.Hostile",), **seconds: float) -> ModelProcess:
        model = load_model(folder, defer=True)
        made.append(ModelProcess(model, trusted, compiled=is_compiled(folder), **seconds))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.mark.parametrize("name", ["compiled", "plain", "multiclass", "regression"])
def test_it_scores_as_the_model_does_here(folders, started, name):
    process = started(folders[name])
    for rows in (ROWS, ROWS[:1]):
        np.testing.assert_array_equal(process.score(rows), score_rows(load_model(folders[name]), rows))


def test_callers_of_several_threads_get_each_their_own_scores(folders, started):
    process, model = started(folders["plain"]), load_model(folders["plain"])
    wrong = []

    def ask(hour: int) -> None:
        rows = [(12.5, hour, False, "JFK", "UA")]
        expected = score_rows(model, rows)
        wrong.extend(hour for _ in range(20) if not np.array_equal(process.score(rows), expected))

    threads = [threading.Thread(target=ask, args=(hour,)) for hour in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("raise", "the model failed: ValueError: as it was told"),
        ("exit", "the model failed: SystemExit: 3"),
        ("interrupt", "the model failed: KeyboardInterrupt: "),
        ("leave a generator", "the model failed: GeneratorExit: "),
        ("cancel", "the model failed: CancelledError: "),
        ("stop", "the model failed: StopIteration: 7"),
        ("be mute", "the model failed: MuteError: (no text)"),
        ("be nameless", "the model failed: (no name): "),
        ("speak no UTF-8", "the model failed: ValueError: \\ud800"),
        ("group", "the model failed: BaseExceptionGroup: both (2 sub-exceptions)"),
        ("recurse", "the model failed: RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_it_raises_is_told_and_its_process_goes_on(hostile, started, order, said):
    error = raised(hostile, started, order)
    assert (error.what, error.where) == (said, "predict")


@pytest.mark.parametrize(
    ("order", "said"), [("talk without end", "(la){250}"), ("talk no text", "<object object at .*>")]
)
def test_an_error_of_the_engines_kind_is_told_in_short_text(hostile, started, order, said):
    error = raised(hostile, started, order)
    assert re.fullmatch(said, error.what)


def raised(hostile, started, order):
    """What a process that is given this order raises; at the next one it answers."""
    (_, orders), process = hostile, started(hostile[0])
    orders.write_text(order)
    with pytest.raises(ModelError) as caught:
        process.score(ROWS)
    orders.unlink()
    assert len(process.score(ROWS)) == 3
    return caught.value


def test_what_fails_in_a_thread_of_its_own_harms_nobody(hostile, started):
    (_, orders), process = hostile, started(hostile[0])
    expected = process.score(ROWS)
    orders.write_text("fail in a thread")
    np.testing.assert_array_equal(process.score(ROWS), expected)


def test_one_that_ends_between_two_requests_is_told_at_the_second_and_starts_again(hostile, started):
    (_, orders), process = hostile, started(hostile[0])
    orders.write_text("leave in a thread")
    process.score(ROWS)
    (keeper,) = (one for one in multiprocessing.active_children() if one.name == "model")
    orders.unlink()
    keeper.join(60)
    with pytest.raises(ModelError, match="exit code 5"):
        process.score(ROWS)
    time.sleep(1.1)
    assert len(process.score(ROWS)) == 3


def test_closing_ends_a_call_whose_process_left_a_child_that_holds_its_connection(hostile, started):
    (_, orders), process = hostile, started(hostile[0])
    process.score(ROWS)
    orders.write_text("leave a child behind")
    close_where_noted(process, f"{orders}.pid")
    with pytest.raises(ModelError, match="the model ended its process"):
        process.score(ROWS)  # or for a minute
    wait_for_the_end(f"{orders}.pid", time.monotonic() + 20)


def close_where_noted(process: ModelProcess, noted: str) -> None:
    """Close it once the child is there whose number a file will hold."""

    def close() -> None:
        while not Path(noted).exists():
            time.sleep(0.05)
        time.sleep(0.3)  # what it was told to do next
        process.close()

    threading.Thread(target=close, daemon=True).start()


def wait_for_the_end(noted: Path | str, until: float) -> None:
    """Until the process whose number a file holds is gone; `until` is monotonic."""
    while Path("/proc", Path(noted).read_text(), "exe").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("leave", "exit code 7"),
        ("be killed", "killed by SIGKILL, as where memory runs out"),
        ("crash", "killed by SIGSEGV"),
        ("close everything", "the model ended its process"),
        ("write over the answer", "the model ended its process"),
    ],
)
def test_one_that_ends_its_process_is_told_and_starts_again(hostile, started, order, said):
    (_, orders), process = hostile, started(hostile[0])
    expected = process.score(ROWS)
    orders.write_text(order)
    with pytest.raises(ModelError, match=said):
        process.score(ROWS)
    orders.unlink()
    with pytest.raises(ModelError, match="it starts again in 1 s"):
        process.score(ROWS)
    time.sleep(1)
    np.testing.assert_array_equal(process.score(ROWS), expected)


@pytest.mark.parametrize("order", ["answer nonsense", "answer in complex numbers", "answer in words"])
def test_scores_that_are_no_numbers_are_its_failure(hostile, started, order):
    hostile[1].write_text(order)
    with pytest.raises(ModelError, match="the model failed: "):
        started(hostile[0]).score(ROWS)


def test_scores_behind_a_mask_are_missing(hostile, started):
    hostile[1].write_text("answer behind a mask")
    assert np.isnan(started(hostile[0]).score(ROWS)).all()


def test_one_that_comes_back_twice_never_answers_another_request(hostile, started):
    (folder, orders), process = hostile, started(hostile[0])
    model = load_model(folder, trusted_types=("hostile.Hostile",))
    requests = [[(12.5, hour, False, "JFK", "UA")] for hour in range(6)]
    expected = [score_rows(model, rows) for rows in requests]
    assert len({float(scores[0]) for scores in expected}) == len(expected)
    orders.write_text("come back twice")
    failed = 0
    for rows, right in zip(requests, expected, strict=True):
        try:
            np.testing.assert_array_equal(process.score(rows), right)
        except ModelError:
            failed += 1
    assert failed
    orders.unlink()
    time.sleep(2.5)
    np.testing.assert_array_equal(process.score(requests[0]), expected[0])


@pytest.mark.parametrize("order", ["hang", "freeze", "hang in native code"])
def test_one_that_hangs_in_a_request_is_ended_and_starts_again(hostile, started, order):
    (_, orders), process = hostile, started(hostile[0], most_seconds=0.5)
    expected = process.score(ROWS)
    orders.write_text(order)
    begun = time.monotonic()
    with pytest.raises(ModelError, match=r"did not answer in 0\.5 seconds"):
        process.score(ROWS)
    assert time.monotonic() - begun < 5
    orders.unlink()
    time.sleep(1)
    np.testing.assert_array_equal(process.score(ROWS), expected)


def test_one_that_hangs_while_it_is_loaded_is_ended(hostile, started):
    hostile[1].write_text("hang")
    with pytest.raises(ModelError, match=r"did not answer in 4 seconds"):
        started(hostile[0], load_seconds=4).score(ROWS)


def test_one_that_is_not_trusted_is_told_as_where_it_is_loaded_here(hostile, started):
    with pytest.raises(UntrustedTypeError) as here:
        load_model(hostile[0])
    with pytest.raises(ModelError) as there:
        started(hostile[0], trusted=()).score(ROWS)
    assert str(there.value) == str(here.value)


def test_closing_ends_a_call_that_hangs_in_native_code(hostile, started):
    (_, orders), process = hostile, started(hostile[0])
    process.score(ROWS)
    orders.write_text("hang in native code")
    threading.Timer(0.5, process.close).start()
    begun = time.monotonic()
    with pytest.raises(ModelError, match="the model ended its process"):
        process.score(ROWS)
    assert time.monotonic() - begun < 10
    with pytest.raises(ModelError, match="not in service any more"):
        process.score(ROWS)


SERVER = """
import multiprocessing.forkserver
import sys
from pathlib import Path
from mergeline.model.artifact import is_compiled, load_model
from mergeline.serve.model_process import ModelProcess

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    process = ModelProcess(load_model(folder, defer=True), ("hostile.Hostile",), compiled=is_compiled(folder))
    process.score([(12.5, 8, False, "JFK", "UA")])
    print(multiprocessing.forkserver._forkserver._forkserver_pid)
"""


def test_the_trial_of_a_compiled_model_leaves_no_fork_server_behind(folders, tmp_path):
    (tmp_path / "server.py").write_text(SERVER)
    command = [sys.executable, str(tmp_path / "server.py"), str(folders["compiled"])]
    done = subprocess.run(command, cwd=tmp_path, check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "None\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel gives it to its keeper")
@pytest.mark.parametrize("order", ["that stays", "that hops"])
def test_a_child_that_leaves_its_group_and_its_parent_ends_when_the_process_is_closed(hostile, started, order):
    (_, orders), process = hostile, started(hostile[0])
    orders.write_text(f"let a child escape {order}")
    assert len(process.score(ROWS)) == 3
    process.close()
    noted, last = Path(f"{orders}.pid"), ""
    while last != (last := noted.read_text()):  # one that hops is another one every moment, for as long as it lives
        wait_for_the_end(noted, time.monotonic() + 20)
        time.sleep(0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel gives it to its keeper")
def test_it_leaves_no_escaped_child_behind_when_it_ends_by_itself(hostile, started):
    (_, orders), process = hostile, started(hostile[0])
    orders.write_text("let a child escape, and it leaves")
    with pytest.raises(ModelError, match="exit code 7"):
        process.score(ROWS)
    wait_for_the_end(f"{orders}.pid", time.monotonic() + 5)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel gives it to the server")
def test_one_that_kills_its_keeper_leaves_no_child_behind(hostile, started):
    (_, orders), process, other = hostile, started(hostile[0]), started(hostile[0])
    expected = other.score(ROWS)
    orders.write_text("let a child escape, and it kills its keeper")
    close_where_noted(process, f"{orders}.pid")  # the child holds the connection, so nobody sees that it has ended
    with pytest.raises(ModelError, match="killed by SIGKILL"):
        process.score(ROWS)
    wait_for_the_end(f"{orders}.pid", time.monotonic() + 20)
    orders.unlink()
    np.testing.assert_array_equal(other.score(ROWS), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="only there memory is bounded")
def test_one_that_asks_for_ever_more_memory_fails_before_it_has_all(hostile, started):
    (_, orders), process = hostile, started(hostile[0])
    process.score(ROWS)
    (keeper,) = (one for one in multiprocessing.active_children() if one.name == "model")
    (child,) = psutil.Process(keeper.pid).children()
    assert resource.prlimit(child.pid, resource.RLIMIT_DATA)[0] < psutil.virtual_memory().total + 10**9
    few = child.memory_info().data + 100_000_000
    resource.prlimit(child.pid, resource.RLIMIT_DATA, (few, few))
    orders.write_text("eat memory")
    with pytest.raises(ModelError, match="the model failed: MemoryError"):
        process.score(ROWS)


@pytest.mark.skipif(sys.platform != "linux", reason="only there the kernel ends it")
@pytest.mark.parametrize("order", ["hang in native code", "let a child escape and it hangs"])
def test_it_does_not_outlive_a_killed_server_though_it_hangs_in_native_code(hostile, tmp_path, order):
    folder, orders = hostile
    orders.write_text(order)
    (tmp_path / "server.py").write_text(SERVER)
    server = subprocess.Popen([sys.executable, str(tmp_path / "server.py"), str(folder)], cwd=tmp_path)
    noted, end = Path(f"{orders}.pid"), time.monotonic() + 60
    while not (noted.exists() and noted.read_text()):
        assert time.monotonic() < end
        time.sleep(0.05)
    server.send_signal(signal.SIGKILL)
    server.wait()
    wait_for_the_end(noted, end)


def test_a_temporary_folder_whose_path_is_too_long_for_a_socket_is_no_obstacle(folders, tmp_path):
    long = tmp_path / ("a" * 120)
    long.mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    command = [sys.executable, str(tmp_path / "server.py"), str(folders["plain"])]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(long)}, check=True, timeout=60)
