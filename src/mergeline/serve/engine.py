"""Answers the body of one request with the model that is served."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mergeline.serve import garbage
from mergeline.serve.answers import encode
from mergeline.serve.metrics import Metrics
from mergeline.serve.records import RequestError, parse_json
from mergeline.serve.reload import Poller, Reloader
from mergeline.serve.settings import Settings
from mergeline.serve.slot import Failure, ServedModel, Serving, Slot, State


class Reply(NamedTuple):
    """The JSON of the answers, and how many there are."""

    body: bytes
    records: int


class Engine:
    """The model in service, the thread that keeps it current, and the thread that predicts."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.settings, self.metrics = settings, metrics
        self._slot = Slot()
        reloader = Reloader(settings, self._slot, metrics, clock=lambda: datetime.now(UTC), after_swap=garbage.settle)
        self._poller = Poller(reloader.poll, settings.poll_seconds)
        # One thread: scikit-learn on two would share one interpreter lock, and the event loop stays free.
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="predict")

    @property
    def state(self) -> State:
        """What is served now."""
        return self._slot.state

    def start(self) -> None:
        """Begin to follow the manifest."""
        self._poller.start()

    def stop(self) -> None:
        """End both threads; a prediction under way is finished."""
        self._poller.stop()
        self.executor.shutdown(cancel_futures=True)

    def serving(self) -> Serving:
        """What is served now.

        Raises:
            RequestError: 503, nothing is; with the reason.
        """
        state = self.state
        if state.serving is None:
            failure = state.failure
            raise RequestError(
                503,
                f"no model is loaded: {failure.error.what}" if failure else "no model is loaded yet",
                mend=(failure.error.mend if failure else "") or "try again in a few seconds; GET /status says more",
            )
        return state.serving

    def answer(self, body: bytes) -> Reply:
        """Read, predict and write the answers.

        Raises:
            RequestError: the request gets no prediction.
            ModelError: the model failed.
        """
        stable = self.serving().stable
        batch = stable.reader.read(parse_json(body), self.settings.max_records)
        return Reply(encode(stable.answer(batch), many=batch.many), len(batch.ids))


def describe(state: State) -> dict[str, Any]:
    """The body of GET /status."""
    serving, failure = state.serving, state.failure
    return {
        "name": serving.name if serving else None,
        "ready": serving is not None,
        "stable": _describe_model(serving.stable) if serving else None,
        "models": [serving.stable.model.digest] if serving else [],
        "manifest": serving.manifest if serving else None,
        "error": _describe_failure(failure) if failure else None,
    }


def _describe_model(served: ServedModel) -> dict[str, Any]:
    since = served.since.isoformat(timespec="milliseconds")
    return {"version": served.version, "digest": served.model.digest, "since": since}


def _describe_failure(failure: Failure) -> dict[str, Any]:
    error, since = failure.error, failure.since.isoformat(timespec="milliseconds")
    return {"what": error.what, "where": error.where, "mend": error.mend, "since": since}
