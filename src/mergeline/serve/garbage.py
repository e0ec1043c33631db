"""Keeps Python's garbage collector from stalling answers."""

from __future__ import annotations

import gc


def settle() -> None:
    """Take what lives now out of the collector's sight; to be called after each swap of a model.

    It would walk every object of the libraries and the model again and again, which stalls answers for 40 to
    100 ms, and none of them becomes garbage before the next swap.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
