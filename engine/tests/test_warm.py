"""Stages that run as forks of the process that proposes."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mergeline.warm import ADDRESS_VARIABLE, OtherForks

CLIENT = "import sys\nfrom mergeline.warm import hand_over\nsys.exit(hand_over(sys.argv[1]))"
PARENT = """
    import os, subprocess, sys, time
    from mergeline.warm import Forks

    def stage(name):
        if name == "fails":
            raise SystemExit(7)
        if name == "crashes":
            os.kill(os.getpid(), 9)
        if name == "waits":
            time.sleep(60)
        if name == "late":
            time.sleep(0.5)
        print(name, os.getcwd(), os.environ.get("ASKED"), os.getpid(), sys.stdin.read(), flush=True)

    steps = [lambda: sys.stderr.write("imported\\n"), open("ready", "w").close]
    forks = Forks(stage, steps, asked=lambda: sys.stderr.write("asked\\n"))
    process = subprocess.Popen(sys.argv[1:], env={**os.environ, **forks.variables}, stderr=subprocess.PIPE)
    with process, forks:
        forks.serve_until_end(process.stderr.fileno(), sys.stderr.buffer.write, early="EARLY" in os.environ)
    sys.exit(process.returncode)
"""


@pytest.fixture
def start(tmp_path):
    """Start a process that forks, and the shell command that it waits for, in a session of their own."""
    client, parent = tmp_path / "client.py", tmp_path / "parent.py"
    client.write_text(CLIENT)
    parent.write_text(textwrap.dedent(PARENT))
    started = []

    def run(script, **settings):
        script = script.replace("CLIENT", f"{sys.executable} {client}")
        started.append(
            subprocess.Popen(
                [sys.executable, str(parent), "/bin/sh", "-c", script],
                cwd=tmp_path,
                env={**os.environ, **settings},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # Where the tests run in the background, a shell has switched Ctrl-C off for all that they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
        )
        return started[-1]

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def session(process):
    """The living processes of a session."""
    found = []
    for other in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(other.pid) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                found.append(other)
    return found


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestHandingOver:
    def test_a_fork_takes_the_askers_place_and_imports_are_made_once(self, start, tmp_path):
        (tmp_path / "sub").mkdir()
        process = start("echo one | CLIENT first && cd sub && echo two | ASKED=yes CLIENT second")
        out, told = process.communicate(timeout=120)
        assert process.returncode == 0, told
        first, second = (line.split() for line in out.splitlines() if line)
        assert [first[0], first[1], first[2], first[4]] == ["first", str(tmp_path), "None", "one"]
        assert [second[0], second[1], second[2], second[4]] == ["second", str(tmp_path / "sub"), "yes", "two"]
        assert first[3] != second[3]
        assert told.count("imported") == told.count("asked") == 1

    def test_imports_are_made_while_nobody_asks(self, start):
        process = start("until [ -e ready ]; do sleep 0.05; done; echo | CLIENT first", EARLY="yes")
        out, told = process.communicate(timeout=60)
        assert out.startswith("first "), told

    @pytest.mark.parametrize(("stage", "code"), [("fails", 7), ("crashes", 137)])
    def test_the_exit_code_comes_back(self, start, stage, code):
        process = start(f"CLIENT {stage}")
        process.communicate(timeout=120)
        assert process.returncode == code

    def test_a_fork_whose_output_nobody_reads_ends_all_the_same(self, start):
        process = start("(CLIENT late </dev/null; echo ended with $? >&2) | true")
        _, told = process.communicate(timeout=60)
        assert "ended with 141" in told

    def test_other_settings_of_the_libraries_are_not_taken(self, start):
        process = start("OMP_NUM_THREADS=3 CLIENT first </dev/null; echo $?")
        out, told = process.communicate(timeout=120)
        assert out == "0\n"  # None: the asker does it itself
        assert "asked" not in told


class TestNobodyThere:
    @pytest.mark.parametrize("settings", [{}, {"MERGELINE_WARM": "/nowhere/warm"}])
    def test_the_asker_is_told_to_do_it_itself(self, settings):
        code = "from mergeline.warm import hand_over; print(hand_over('train'))"
        environment = {name: value for name, value in os.environ.items() if name != "MERGELINE_WARM"}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment | settings, capture_output=True, text=True, check=True
        )
        assert done.stdout == "None\n"


class TestKills:
    """However it ends, nothing goes on running."""

    @pytest.fixture
    def waiting(self, start):
        process = start("CLIENT waits </dev/null")
        wait_for(lambda: len(session(process)) >= 3 and self.fork(process) is not None)
        return process

    def fork(self, process):
        """The fork: the child of the parent that has its command line."""
        for child in psutil.Process(process.pid).children():
            with suppress(psutil.Error):
                if child.cmdline()[1:2] == [process.args[1]]:
                    return child
        return None

    def test_the_parent_is_killed(self, waiting):
        waiting.kill()
        waiting.wait()
        wait_for(lambda: not session(waiting))

    def test_the_parent_is_interrupted_alone(self, waiting):
        os.kill(waiting.pid, signal.SIGINT)
        waiting.wait(60)
        wait_for(lambda: not session(waiting))

    def test_everybody_is_interrupted_as_by_a_key(self, waiting):
        os.killpg(waiting.pid, signal.SIGINT)
        waiting.wait(60)
        wait_for(lambda: not session(waiting))

    def test_the_asker_is_killed(self, waiting):
        asker = next(one for one in session(waiting) if Path(one.cmdline()[-2]).name == "client.py")
        asker.kill()
        waiting.wait(60)
        wait_for(lambda: not session(waiting))


class TestEnding:
    """It stays for ten minutes: here, for a moment."""

    STAYS = (
        "import sys; from pathlib import Path; from mergeline.warm import Forks\n"
        "with Forks(print, address=Path(sys.argv[1])) as forks:\n"
        "    print('there', flush=True); forks.serve_while_used(float(sys.argv[2]))"
    )

    def start(self, address, idle_seconds):
        program = [sys.executable, "-c", self.STAYS, str(address), str(idle_seconds)]
        process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "there\n"
        return process

    def test_it_ends_when_nobody_has_asked(self, tmp_path):
        with self.start(tmp_path / "warm", 0.2) as process:
            assert process.wait(60) == 0
        assert list(tmp_path.iterdir()) == []

    def test_only_its_user_can_ask(self, tmp_path):
        with self.start(tmp_path / "warm", 0.2):
            assert stat.S_IMODE((tmp_path / "warm").stat().st_mode) & 0o077 == 0

    def test_one_that_another_took_the_place_of_ends_and_leaves_the_other_its_place(self, tmp_path):
        address = tmp_path / "warm"
        with self.start(address, 0.5) as old, self.start(address, 60) as new:
            assert old.wait(60) == 0
            assert address.exists()
            new.terminate()


class TestOtherForks:
    """A process that may not fork has one started that may."""

    PROGRAM = "from mergeline.warm import Forks\nwith Forks(print, []) as forks:\n    forks.serve_who_started()\n"

    def test_it_does_the_work_and_ends_with_who_started_it(self, tmp_path, monkeypatch):
        (tmp_path / "forking.py").write_text(self.PROGRAM)
        (tmp_path / "client.py").write_text(CLIENT)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with OtherForks("forking") as forks:
            command = [sys.executable, str(tmp_path / "client.py"), "some stage"]
            environment = os.environ | forks.variables
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            address = Path(forks.variables[ADDRESS_VARIABLE])
            assert address.exists()
        assert done.stdout == "some stage\n"
        assert not address.parent.exists()

    def test_ctrl_c_is_for_who_started_it(self, tmp_path, monkeypatch, capfd):
        # Where the tests run in the background, a shell has switched Ctrl-C off for all that they start.
        ctrl_c = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        (tmp_path / "forking.py").write_text(ctrl_c + self.PROGRAM)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with OtherForks("forking") as forks:
            forks.process.send_signal(signal.SIGINT)
            forks.process.wait(60)
        assert not capfd.readouterr().err

    def test_where_it_does_not_start_stages_do_the_work_themselves(self, capfd):
        with OtherForks("mergeline.nowhere") as forks:
            assert forks.variables == {}
