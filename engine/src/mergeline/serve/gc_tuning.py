"""Keeps Python's garbage collector from stalling answers."""

from __future__ import annotations

import gc


def settle() -> None:
    """Take what lives now out of the collector's sight; to be called after each swap of a model.

    It would walk every object of the libraries and the model again and again, which stalls answers for 40 to
    100 ms, and none of them becomes garbage before the next swap. So only the first call, before there are any
    requests, looks at everything; a later one looks at what is new, which takes a millisecond or two. The little that
    a former model leaves in reference cycles is never freed.
    """
    gc.collect(1 if gc.get_freeze_count() else 2)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
