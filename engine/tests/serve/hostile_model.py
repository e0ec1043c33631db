"""A model that does what a file says."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

from mergeline.errors import MergelineError
from mergeline.traffic.drill import Drill


class MuteError(Exception):
    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class Unnamed(type):
    @property
    def __name__(cls):
        raise GeneratorExit


class Nameless(BaseException, metaclass=Unnamed):
    pass


class TextlessError(MergelineError):
    def __init__(self):
        super().__init__("")
        self.what = object()


RAISED = {
    "raise": ValueError("as it was told"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "leave a generator": GeneratorExit(),
    "cancel": asyncio.CancelledError(),
    "stop": StopIteration(7),
    "be mute": MuteError(),
    "be nameless": Nameless(),
    "speak no UTF-8": ValueError("\ud800"),
    "talk without end": MergelineError("la" * 100_000, hint="la" * 100_000),
    "talk no text": TextlessError(),
    "group": BaseExceptionGroup("both", [SystemExit(1), KeyboardInterrupt()]),
}


def recurse():
    recurse()


def leave_without(orders):
    while orders.exists():
        time.sleep(0.02)
    os._exit(5)


def escape(noted, hop):
    """Leave the group, the session and the parent, and stay; or be another process every moment."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        draft = noted.with_suffix(".draft")
        draft.write_text(str(os.getpid()))
        draft.rename(noted)
        if not hop:
            time.sleep(60)
        elif os.fork():
            os._exit(0)
    os._exit(0)


class Hostile(Drill):
    def __init__(self, model=None, orders=""):
        self.model, self.orders = model, orders

    def predict_proba(self, rows):  # noqa: PLR0912, PLR0915 - one branch an order
        order = Path(self.orders).read_text() if Path(self.orders).exists() else ""
        if order == "leave":
            os._exit(7)
        if order == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "crash":
            ctypes.string_at(0)
        if order in RAISED:
            raise RAISED[order]
        if order == "recurse":
            recurse()
        if order == "fail in a thread":
            thread = threading.Thread(target=sys.exit, args=("a thread",))
            thread.start()
            thread.join()
        if order == "leave in a thread":
            threading.Thread(target=leave_without, args=(Path(self.orders),)).start()
        if order == "leave a child behind":
            if os.fork() == 0:
                Path(self.orders + ".pid").write_text(str(os.getpid()))
                time.sleep(60)
                os._exit(0)
            time.sleep(60)
        if order.startswith("let a child escape"):
            escape(Path(self.orders + ".pid"), hop="hops" in order)
            if "kills its keeper" in order:
                os.kill(os.getppid(), signal.SIGKILL)
            if "leaves" in order:
                os._exit(7)
            while "hangs" in order:
                time.sleep(1)
        if order == "eat memory":
            eaten = []
            while True:
                eaten.append(b"\1" * 10_000_000)
        if order == "answer nonsense":
            return ["a"] * len(rows)
        if order == "answer in complex numbers":
            return self.model.predict_proba(rows) + 0.5j
        if order == "answer in words":
            return self.model.predict_proba(rows).astype(str)
        if order == "answer behind a mask":
            return np.ma.masked_less(self.model.predict_proba(rows), 2)
        if order == "come back twice" and os.fork() == 0:
            return self.model.predict_proba(rows)
        if order == "hang":
            time.sleep(60)
        if order == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        if order == "close everything":
            os.closerange(3, 100)
        if order == "write over the answer":
            for handle in range(3, 100):
                with contextlib.suppress(OSError):
                    os.write(handle, b"\0\0\0\4nope")
        if order == "hang in native code":
            Path(self.orders + ".pid").write_text(str(os.getpid()))
            ctypes.PyDLL(None).sleep(60)  # with the interpreter lock
        return self.model.predict_proba(rows)
