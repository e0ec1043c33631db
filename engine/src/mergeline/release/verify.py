"""Checks that the manifest, the store, the signatures and `dvc.lock` tell the same story."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mergeline.documents import parse_plain
from mergeline.errors import DocumentError, ManifestError, MergelineError, ModelError, UntrustedTypeError, VersionError
from mergeline.evaluate.results import Check, Status
from mergeline.manifest.schema import Lineage, Manifest, Release, manifest_path, read_manifest
from mergeline.manifest.signatures import check_release, signature_of
from mergeline.manifest.transitions import is_conclusion, is_rollback, new_release, only_new_release, releases, short
from mergeline.model.artifact import LINEAGE_FILE, changed_code, folder_digest, is_compiled, load_model, read_part
from mergeline.model.check import check_model
from mergeline.model.environment import TRAINING_FORMAT
from mergeline.model.lineage import ModelLineage
from mergeline.params import Params
from mergeline.store.dvc_lock import LOCK_FILE, locked_model
from mergeline.store.objects import Store, configured_store


def verify(
    root: Path,
    params: Params,
    store: Store | None = None,
    *,
    stored: bool = True,
    known: Callable[[], Mapping[str, str]] = dict,
) -> tuple[Check, ...]:
    """Check what is released, all of it, in every environment, whatever fails.

    The lines of an environment before production begin with its name.

    Args:
        root: the repository.
        params: names the deployment and says how models must be signed.
        store: where the models lie; None takes the store that `.dvc/config` names.
        stored: whether to look at the models too; False where this job may not read the store.
        known: gives the digests of released models by their object in the store; asked only if it matters.

    Returns:
        One line for each check. The state is sound where none has failed.
    """
    return tuple(_checks(root, params, store, stored, known))


def _checks(
    root: Path, params: Params, store: Store | None, stored: bool, known: Callable[[], Mapping[str, str]]
) -> Iterator[Check]:
    found: dict[str, Manifest] = {}
    for environment in reversed(params.release.environments):  # production first
        before = "" if environment == params.release.environments[-1] else f"{environment}: "
        path = manifest_path(params.release.environments, environment)
        if before and not (root / path).exists():
            meaning = "the first proposal starts it from production's manifest"
            yield _check(f"{before}manifest", Status.SKIP, "none yet", "", meaning)
            continue
        try:
            found[environment] = read_manifest(root / path)
        except ManifestError as error:
            yield _failed(f"{before}manifest", error, "keeps to deploy/manifest.schema.json")
            return
        yield from _readable(params, found[environment], before)
        named = releases(found[environment])
        seen = [release for one in [*found.values()][:-1] for release in releases(one).values()]
        new = {f"{before}{role}": release for role, release in named.items() if release not in seen}
        if stored and new:
            yield from _stored(root, params, store, new)
        yield _holds(root / path, found[environment], before)
    yield from _held_elsewhere(found)
    first = found.get(params.release.environments[0], next(iter(found.values())))
    yield from _lock(root, first, store, known)


def _readable(params: Params, manifest: Manifest, before: str) -> Iterator[Check]:
    """What a manifest is that could be read."""
    meaning = "every key and value is one that the server knows"
    yield _check(f"{before}manifest", True, "valid", "keeps to deploy/manifest.schema.json", meaning)
    name = manifest.metadata.name
    yield _check(f"{before}name", name == params.name, name, params.name, "the manifest is this model's")
    if not releases(manifest):
        yield _check(f"{before}stable", Status.SKIP, "none", "", "nothing is released yet")


def _held_elsewhere(found: Mapping[str, Manifest]) -> Iterator[Check]:
    """What one environment serves and another one holds: it stays where it is, and goes no further."""
    for serving, holding in itertools.permutations(found, 2):
        held = {hold.digest: hold.reason for hold in found[holding].spec.holds}
        for release in found[serving].spec.serving:
            if release.digest in held:
                value = f"version {release.version}: {held[release.digest]}"
                bound = "no model that one environment holds serves in another"
                meaning = f"it is promoted nowhere: roll {serving} back too, or remove the hold"
                yield _check(f"{serving}: held in {holding}", Status.WARN, value, bound, meaning)


def _stored(root: Path, params: Params, store: Store | None, named: Mapping[str, Release]) -> Iterator[Check]:
    try:
        place = store or configured_store(root)
    except MergelineError as error:
        yield _failed("store", error, "configured")
        return
    with tempfile.TemporaryDirectory() as scratch:
        for role, release in named.items():
            yield from _release(root, params, place, role, release, folder=Path(scratch, role))


def _release(root: Path, params: Params, store: Store, role: str, release: Release, *, folder: Path) -> Iterator[Check]:
    """The checks of one release; those that need its files are left out where the store does not have them."""
    try:
        store.fetch_folder(release.source, folder)
    except MergelineError as error:
        missing = store.missing(release.source)
        bound = "every object is there, and holds the bytes that its name promises"
        yield _failed(f"{role}: store", error, bound, ", ".join(missing))
        return
    yield _check(f"{role}: store", True, release.source, "every object is there", "complete")
    found, meaning = folder_digest(folder), "the stored files are the released model"
    yield _check(f"{role}: digest", found == release.digest, found, release.digest, meaning)
    yield _lineage(role, release.lineage, folder / LINEAGE_FILE)
    bound = "types, shapes, signature and scorer are those of a model of this project"
    try:
        check_model(folder, name=params.name, own=params.model.trusted)
    except MergelineError as error:
        yield _failed(f"{role}: model", error, bound)
    else:
        yield _check(f"{role}: model", True, "can be served", bound, "nothing of it was run for this")
        if is_compiled(folder):
            yield compare_scorer(f"{role}: scorer", folder)
        if called := changed_code(folder, release.lineage.code, params.model.package):
            value = f"the package has changed since it was trained: {', '.join(called)}"
            bound = "what a model calls of the team's package is as it was when it was trained"
            meaning = "it answers as the code here does; where that is not the same, train and release it again"
            yield _check(f"{role}: code", Status.WARN, value, bound, meaning)
    if params.release.signing.policy == "off":
        yield _check(f"{role}: signature", Status.SKIP, "not checked", "off", "the policy is off")
        return
    try:
        check_release(folder, root, params.release.signing, signature_of(release))
    except MergelineError as error:
        yield _failed(f"{role}: signature", error, "signed by the public key's other half")
    else:
        yield _check(f"{role}: signature", True, signature_of(release), "required", "signed by the trusted key")


def compare_scorer(name: str, folder: Path) -> Check:
    """Whether the scorer that answers is made of the pipeline beside it, as scikit-learn's own code reads that."""
    bound, skipped = "what compiling the pipeline again gives", ""
    if not all(map(find_spec, ("onnx", "skops"))):
        skipped = "the libraries that train are not installed here"
    else:
        try:
            model = load_model(folder)  # without the team's types: their code is not run
            if model.lineage.training_format != TRAINING_FORMAT:
                skipped = f"the training format is {model.lineage.training_format}, this engine's is {TRAINING_FORMAT}"
        except (VersionError, UntrustedTypeError) as error:
            skipped = error.what
        except MergelineError as error:
            return _failed(name, error, bound)
    if skipped:
        meaning = "that it answers as the pipeline does is for whoever trained it to say"
        return _check(name, Status.SKIP, f"not compared: {skipped}", bound, meaning)
    from mergeline.scorer.compiling import difference

    found = difference(folder, model.pipeline, model.signature)
    return _check(name, not found, found or "equal", bound, "it answers as the pipeline does")


def _lineage(role: str, released: Lineage, file: Path) -> Check:
    bound = "the manifest's lineage is the model's own"
    try:
        own = read_part(file, ModelLineage)
    except ModelError as cause:
        meaning = f"the model's {LINEAGE_FILE} is missing or damaged; train it again"
        return _check(f"{role}: lineage", Status.FAIL, f"unreadable: {cause}", bound, meaning)
    wrong = [key for key in Lineage.model_fields if getattr(own, key) != getattr(released, key)]
    value = "; ".join(f"{key} is {getattr(own, key)}, released as {getattr(released, key)}" for key in wrong)
    return _check(f"{role}: lineage", not wrong, value or "equal", bound, "what it was made from is on record")


def _holds(path: Path, manifest: Manifest, before: str) -> Check:
    holds, previous = manifest.spec.holds, manifest.spec.previous
    written = parse_plain(path.read_text(encoding="utf-8"), str(path))["spec"]
    if (written.get("candidate") or {}).get("digest") in manifest.spec.held:
        meaning = "the candidate is held, so its rollout has ended: take `candidate` out of the manifest"
    elif previous is not None and previous.digest in manifest.spec.held:
        meaning = "the previous model is held: there is nothing to roll back to"
    else:
        meaning = ""
    value = "; ".join(f"{short(hold.digest)}: {hold.reason}" for hold in holds) or "none"
    bound, status = "no model under a hold is stable or candidate", Status.WARN if meaning else Status.PASS
    return _check(f"{before}holds", status, value, bound, meaning or "nothing held is served")


def _lock(
    root: Path, manifest: Manifest, store: Store | None, known: Callable[[], Mapping[str, str]]
) -> Iterator[Check]:
    """Whether the pipeline's last model is the one that is released, in the first environment."""
    if not (root / LOCK_FILE).exists():
        if releases(manifest):
            bound, meaning = "says which model the pipeline made", "the file is gone: git checkout -- dvc.lock"
            yield _check("dvc.lock", Status.FAIL, "none", bound, meaning)
        else:
            yield _check("dvc.lock", Status.SKIP, "none", "", "the pipeline has not run yet")
        return
    bound = "the pipeline's model is the stable one or the candidate"
    try:
        source = locked_model(root)
    except DocumentError as error:
        yield _failed("dvc.lock", error, bound)
        return
    spec = manifest.spec
    serving = [release.source for release in spec.serving]
    rolled_back = source not in serving and _is_held(root, manifest, store, known)
    if source in serving or rolled_back:
        meaning = "it was rolled back and is held" if rolled_back else "what was reviewed is what is served"
        yield _check("dvc.lock", True, source, bound, meaning)
    elif spec.previous is not None and spec.previous.source == source:
        meaning = "it was served before, and its hold was lifted: propose it again, or change the model"
        yield _check("dvc.lock", Status.WARN, source, bound, meaning)
    else:
        meaning = "a model was trained and not proposed: run mergeline propose"
        yield _check("dvc.lock", Status.FAIL, source or "no model", bound, meaning)


def _is_held(root: Path, manifest: Manifest, store: Store | None, known: Callable[[], Mapping[str, str]]) -> bool:
    """Whether the model that `dvc.lock` names is under a hold."""
    named = {**known(), **{release.source: release.digest for release in releases(manifest).values()}}
    try:
        return model_in_lock(root, named, store) in manifest.spec.held
    except MergelineError:
        return False  # a model that is not in the store was not rolled back


def model_in_lock(root: Path, known: Mapping[str, str], store: Store | None = None) -> str | None:
    """The digest of the model that `dvc.lock` names; None where it names none.

    Args:
        root: the repository.
        known: digests by the store's object of the model, so that those need not be fetched.
        store: where the others are; None takes the configured one.

    Raises:
        DocumentError: the lock is none.
        StoreError: the model is not in the store.
    """
    source = locked_model(root) if (root / LOCK_FILE).exists() else ""
    if not source or source in known:
        return known.get(source)
    with tempfile.TemporaryDirectory() as scratch:
        (store or configured_store(root)).fetch_folder(source, Path(scratch, "model"))
        return folder_digest(Path(scratch, "model"))


def check_history(manifests: Sequence[Manifest], known: Callable[[], Iterable[Manifest]]) -> Check:
    """Check that nothing was released blind: each model was proposed against the one that it replaces.

    Args:
        manifests: the states of the base branch, oldest first, from before a push to after it.
        known: gives the states of before them; asked only if it matters.
    """
    bound = "each release replaces the model that it was judged against, or goes back to one that was served"
    pairs = list(itertools.pairwise(manifests))
    ends = [(manifests[0], manifests[-1])] if len(manifests) > 1 else []
    blind = [trouble for pair in pairs if (trouble := _blind(*pair, known))]
    if not blind or not any(_blind(*pair, known) for pair in ends):
        return _check("history", True, f"{len(pairs)} changes", bound, "what was judged is what was merged")
    meaning = "a model was released that was judged against another one: roll back, or propose it again"
    return _check("history", Status.FAIL, "; ".join(blind), bound, meaning)


def _blind(before: Manifest, after: Manifest, known: Callable[[], Iterable[Manifest]]) -> str | None:
    """What is wrong with a step of the history, or nothing."""
    was, now = before.spec.stable, new_release(before, after)
    if now is None or before.metadata.name != after.metadata.name:
        return None
    if is_conclusion(before, after) or only_new_release(before, after) is not None:
        return None
    if was is not None and is_rollback(before, after, known):
        return None
    if now == after.spec.candidate:
        return f"version {now.version} came as a candidate, and was judged against another state of production"
    replaced = "nothing" if after.spec.previous is None else f"version {after.spec.previous.version}"
    served = "nothing" if was is None else f"version {was.version}"
    return f"version {now.version} was judged against {replaced}, and replaced {served}"


def _check(name: str, found: bool | Status, value: str, bound: str, meaning: str) -> Check:
    """A check that is right or not, where `meaning` is what is right; or one with its status."""
    if isinstance(found, bool):
        found, meaning = (Status.PASS, meaning) if found else (Status.FAIL, f"not so: {meaning}")
    return Check(name=name, status=found, value=value, bound=bound, meaning=meaning)


def _failed(name: str, error: MergelineError, bound: str, value: str = "") -> Check:
    return _check(name, Status.FAIL, value or error.what, bound, str(error))
