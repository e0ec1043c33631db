"""Puts what the manifest says into service, and keeps the old model in service when that cannot be done."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mergeline.documents import parse
from mergeline.errors import ManifestError, MergelineError, ModelError
from mergeline.model.artifact import LoadedModel, load_model
from mergeline.model.store import Store
from mergeline.release.manifest import Manifest, Release
from mergeline.release.sign import check_release
from mergeline.serve.cache import ModelCache
from mergeline.serve.metrics import Metrics
from mergeline.serve.openapi import example_record
from mergeline.serve.settings import Settings
from mergeline.serve.slot import Failure, ServedModel, Serving, Slot, State

LONGEST_RETRY_SECONDS = 30.0

logger = logging.getLogger(__name__)


class Reloader:
    """Compares the manifest with what is served, once a poll.

    A manifest that failed is tried again, since its cause may go without an edit (an object that was not
    pushed yet, a store that was away): after one poll, then twice as long each time, up to 30 seconds.
    """

    def __init__(
        self,
        settings: Settings,
        slot: Slot,
        metrics: Metrics,
        *,
        clock: Callable[[], datetime],
        after_swap: Callable[[], None],
    ) -> None:
        self._settings, self._slot, self._metrics = settings, slot, metrics
        self._clock, self._after_swap = clock, after_swap
        self._cache = ModelCache(Path(settings.cache), Store(settings.store))
        self._failed_manifest = ""
        self._failures = 0
        self._retry_at = datetime.min.replace(tzinfo=UTC)

    def poll(self) -> None:
        """Look at the manifest once, and act on it. Never raises: what went wrong is in the slot's state."""
        digest = ""
        try:
            content = read_manifest_bytes(self._settings.manifest)
            digest = "sha256:" + hashlib.sha256(content).hexdigest()
            if self._is_served(digest):
                self._recover()
            elif digest != self._failed_manifest or self._clock() >= self._retry_at:
                self._swap(self._prepare(content, digest))
        except MergelineError as error:
            self._fail(error, digest)
        except Exception as cause:  # a fault of ours must not stop the polling
            logger.exception("the manifest could not be put into service")
            self._fail(MergelineError(f"{type(cause).__name__}: {cause}", where="reload"), digest)

    def _is_served(self, digest: str) -> bool:
        serving = self._slot.state.serving
        return serving is not None and serving.manifest == digest

    def _prepare(self, content: bytes, digest: str) -> Serving:
        manifest = parse(content.decode("utf-8", "replace"), Manifest, self._settings.manifest, ManifestError)
        release = manifest.spec.stable
        if release is None:
            raise ManifestError(
                "no model is released yet",
                where=f"{self._settings.manifest}: spec.stable",
                mend="merge a pull request that releases one: mergeline propose",
            )
        served = self._slot.state.serving
        if served is not None and served.stable.model.digest == release.digest:
            model, since = served.stable.model, served.stable.since
        else:
            model, since = self._load(release), self._clock()
        check_model(manifest, release, model)
        check_release(model.folder, Path(self._settings.root), self._settings.signing, release.signature)
        stable = ServedModel(release.version, model, since)
        stable.warm_up()
        return Serving(manifest.metadata.name, digest, stable)

    def _load(self, release: Release) -> LoadedModel:
        folder = self._cache.fetch(release.source, release.digest)
        return load_model(folder, digest=release.digest, trusted_types=self._settings.trusted_types)

    def _swap(self, serving: Serving) -> None:
        first = self._slot.state.serving is None
        self._slot.state = State(serving)
        self._failed_manifest, self._failures = "", 0
        self._metrics.reload_succeeded(serving, self._clock())
        stable, url = serving.stable, self._settings.url
        place = f" at {url}" if url else ""
        logger.info("serving %s version %d (%s)%s", serving.name, stable.version, stable.model.digest, place)
        if first and url:
            record = json.dumps(example_record(stable.model.signature))
            header = "content-type: application/json"
            logger.info("  try: curl -s %s/predict -H '%s' -d %s", url, header, shlex.quote(record))
        self._after_swap()

    def _recover(self) -> None:
        if self._slot.state.failure is not None:
            self._slot.state = State(self._slot.state.serving)
            self._failed_manifest, self._failures = "", 0
            self._metrics.reload_recovered()
            logger.info("the manifest is well again")

    def _fail(self, error: MergelineError, digest: str) -> None:
        now = self._clock()
        self._metrics.reload_failed()
        self._failures = self._failures + 1 if digest == self._failed_manifest else 1
        self._failed_manifest = digest
        wait = self._settings.poll_seconds * 2 ** min(self._failures - 1, 10)
        self._retry_at = now + timedelta(seconds=min(wait, LONGEST_RETRY_SECONDS))
        state = self._slot.state
        if state.failure is None or str(state.failure.error) != str(error):
            self._slot.state = State(state.serving, Failure(error, now))
            kept = "the old model stays" if state.serving else "there is no model yet"
            logger.warning("the manifest is not in service, %s: %s", kept, error)


def read_manifest_bytes(place: str) -> bytes:
    """The manifest as it stands at `place`, a path.

    Raises:
        ManifestError: it is missing, or cannot be read.
    """
    try:
        return Path(place).read_bytes()
    except OSError as cause:
        raise ManifestError(
            f"the manifest cannot be read: {cause.strerror}",
            where=place,
            mend="put it back (git checkout), or give its path with --manifest",
        ) from None


def check_model(manifest: Manifest, release: Release, model: LoadedModel) -> None:
    """See that the loaded model is the one that the manifest describes.

    Raises:
        ModelError: it has another name or another origin.
    """
    name = model.signature.name
    if name != manifest.metadata.name:
        raise ModelError(
            f"the model is called {name!r}, the manifest deploys {manifest.metadata.name!r}",
            where="metadata.name",
            mend="release a model of this name: mergeline propose",
        )
    for part in ("code", "data", "params", "environment"):
        promised, found = getattr(release.lineage, part), getattr(model.lineage, part)
        if promised != found:
            raise ModelError(
                f"the model was made from {part} {found}, the manifest says {promised}",
                where=f"spec.stable.lineage.{part}",
                mend="let `mergeline propose` write the manifest",
            )


class Poller:
    """Calls `poll` in a thread of its own until it is stopped."""

    def __init__(self, poll: Callable[[], None], seconds: float) -> None:
        self._poll, self._seconds = poll, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)

    def start(self) -> None:
        """Begin, with a first poll at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the poll under way; a poll that takes longer than 5 seconds is abandoned."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._poll()
            self._stopped.wait(self._seconds)
