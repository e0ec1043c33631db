"""The model folder: one digest, canonical bytes, and a loader that trusts nothing."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from mergeline.documents import parse_json
from mergeline.errors import CodeError, DigestError, ModelError, VersionError
from mergeline.files import pack_zip
from mergeline.model.environment import team_package
from mergeline.model.lineage import ModelLineage, git_tree
from mergeline.model.trust import require_own, require_trusted
from mergeline.scorer.signature import Signature

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from mergeline.scorer.runtime import Scorer

MODEL_FOLDER = Path("model")
FETCHED_FOLDER = Path("build/champion")
MODEL_FILE = "model.skops"
SIGNATURE_FILE = "signature.json"
LINEAGE_FILE = "lineage.json"
PROFILE_FILE = "profile.json"
MLFLOW_FILE = "MLmodel"

_AGAIN = "fetch the model again, or train it again: mergeline propose"

Document = TypeVar("Document", bound=BaseModel)


@dataclass(frozen=True)
class LoadedModel:
    """A model folder that was checked and is ready to predict; `load` gives its fitted pipeline."""

    folder: Path
    digest: str
    signature: Signature
    lineage: ModelLineage
    load: Callable[[], Any]

    @cached_property
    def pipeline(self) -> Any:
        """The fitted pipeline, loaded when it is first asked for, since a server need not load it.

        Raises:
            UntrustedTypeError: the file names a type that is not trusted.
            ModelError: the file is missing or damaged.
        """
        return self.load()

    @cached_property
    def scorer(self) -> Scorer | None:
        """The compiled pipeline, read when it is first asked for; None where scikit-learn serves the model.

        Raises:
            ModelError: the scorer is damaged, or is made for other records than the signature describes.
        """
        from mergeline.scorer.stored import load_scorer

        return load_scorer(self.folder, self.signature)

    def predict(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Score the rows of `frame`.

        Returns:
            For a binary task shape (n,), the probability of the positive class; for a multiclass task
            shape (n, k), a probability for each of `signature.output.classes`; for a regression shape
            (n,), the value in the target's unit.

        Raises:
            ModelError: a column is missing.
        """
        from mergeline.scorer.pipeline import scores, to_features

        features = to_features(frame, self.signature.columns)
        return scores(self.pipeline, features, self.signature)


_CACHED = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")


def _is_cached(link: Path) -> bool:
    """Whether a link leads to a file of DVC's cache: `cache.type symlink` makes such links, and they name content."""
    return bool(_CACHED.fullmatch(link.resolve().as_posix())) and link.is_file()


def folder_files(folder: Path) -> list[str]:
    """The files in `folder` as sorted relative paths.

    Raises:
        ModelError: the folder is missing, or holds something that is neither a file nor a folder.
    """
    if not folder.is_dir():
        raise ModelError("there is no model folder", where=str(folder), hint="make it: dvc repro")
    names = []
    for path in folder.rglob("*"):
        if (path.is_symlink() and not _is_cached(path)) or not (path.is_file() or path.is_dir()):
            raise ModelError("neither a file nor a folder", where=str(path), hint="replace the link by the file itself")
        if path.is_file():
            names.append(path.relative_to(folder).as_posix())
    return sorted(names)


def folder_digest(folder: Path) -> str:
    """The model's identity: sha256 over the sorted lines `path NUL sha256(file)`."""
    return "sha256:" + hashlib.sha256(folder_listing(folder).encode()).hexdigest()


def folder_listing(folder: Path) -> str:
    """The sorted lines `path NUL sha256(file)`, whose sha256 is the model's identity."""
    lines = (f"{name}\0{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in folder_files(folder))
    return "".join(lines)


def folder_bytes(folder: Path) -> int:
    """The size of all files in `folder`, in bytes."""
    return sum((folder / name).stat().st_size for name in folder_files(folder))


def load_model(
    folder: Path, *, digest: str | None = None, trusted_types: tuple[str, ...] = (), defer: bool = False
) -> LoadedModel:
    """Check a model folder and load it.

    Args:
        folder: the model folder.
        digest: what the folder's digest must be; None takes any.
        trusted_types: the team's own types that `model.skops` may name, as `model.trust` reads them.
        defer: load the pipeline (and with it scikit-learn) only when it is needed.

    Raises:
        DigestError: the folder's bytes are not those that `digest` promises.
        VersionError: the model was made by another scikit-learn.
        UntrustedTypeError: the file names a type that is on neither list.
        ModelError: a part is missing or damaged.
    """
    found = folder_digest(folder)
    if digest is not None and found != digest:
        raise DigestError(
            f"the folder's digest is {found}, expected {digest}",
            where=str(folder),
            hint="fetch the model again: dvc pull --force",
        )
    signature = read_part(folder / SIGNATURE_FILE, Signature)
    lineage = read_part(folder / LINEAGE_FILE, ModelLineage)
    made_by, installed = lineage.libraries.get("scikit-learn", "(unknown)"), version("scikit-learn")
    if made_by != installed:
        raise VersionError(
            f"made by scikit-learn {made_by}, installed is {installed}",
            where=str(folder),
            hint=f"install scikit-learn {made_by}, or train again with this one: mergeline propose",
        )
    file = folder / MODEL_FILE
    model = LoadedModel(folder, found, signature, lineage, partial(load_pipeline, file, trusted_types))
    if not defer or not file.exists():
        _ = model.pipeline
    return model


def fetch_model(
    root: Path, source: str, *, digest: str, trusted_types: tuple[str, ...] = (), defer: bool = False
) -> LoadedModel:
    """The model that a release names, from the store, or from where it was put when it was last asked for.

    Args:
        root: the repository.
        source: the model's object in the store.
        digest: the model's digest.
        trusted_types: as in `load_model`.
        defer: as in `load_model`.

    Raises:
        StoreError: an object is missing, or the store does not answer.
        ModelError: the model cannot be used here.
    """
    from mergeline.store.objects import configured_store

    folder = root / FETCHED_FOLDER / digest.removeprefix("sha256:")
    try:
        return load_model(folder, digest=digest, trusted_types=trusted_types, defer=defer)
    except ModelError:
        configured_store(root).fetch_folder(source, folder)
        return load_model(folder, digest=digest, trusted_types=trusted_types, defer=defer)


def is_compiled(folder: Path) -> bool:
    """Whether a compiled scorer serves the model in `folder`; reads its description alone.

    Raises:
        ModelError: the description is damaged.
    """
    from mergeline.scorer.stored import read_document

    document = read_document(folder)
    return document is not None and document.program is not None


def load_pipeline(path: Path, trusted_types: tuple[str, ...]) -> Any:
    """The fitted pipeline in a file.

    Raises:
        UntrustedTypeError: the file names a type that is on neither list.
        ModelError: the file is missing or damaged.
    """
    import skops.io

    try:
        names = skops.io.get_untrusted_types(file=path)
    except FileNotFoundError:
        raise ModelError("the model file is missing", where=str(path), hint="fetch the model again") from None
    except Exception as cause:
        raise ModelError(f"not a skops file: {cause}", where=str(path), hint="fetch the model again") from cause
    require_trusted(names, trusted_types, str(path))
    require_own(names, str(path))
    try:
        return skops.io.load(path, trusted=names)
    except Exception as cause:
        raise ModelError(f"the model cannot be loaded: {cause}", where=str(path), hint="train it again") from cause


def read_part(path: Path, model: type[Document]) -> Document:
    """One of a model's JSON files, whoever wrote it.

    Raises:
        ModelError: it is missing, or no such document.
    """
    try:
        return model.model_validate(parse_json(path.read_bytes(), str(path), ModelError))
    except OSError:
        raise ModelError("a part of the model is missing", where=str(path), hint=_AGAIN) from None
    except ValidationError as cause:
        wrong = cause.errors()[0]
        what = f"not a {model.__name__}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
        raise ModelError(what[:500], where=str(path), hint=_AGAIN) from None


SCHEMA = "schema.json"


def dump_pipeline(pipeline: Any) -> bytes:
    """The pipeline in skops' format, one byte string for one model.

    skops names parts by memory address, and zip files hold times: both are replaced by order of
    appearance and a fixed time. Members are stored, not compressed, since compressors differ.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(pipeline))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop(SCHEMA))
    names = _renumber(schema)
    parts = {names[name]: _canonical_part(name, content) for name, content in members.items()}
    parts[SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    return pack_zip(parts)


def _renumber(schema: Any) -> dict[str, str]:
    """Replace ids and file names in `schema` by order of appearance; returns the new name of each file."""
    ids: dict[int, int] = {}
    files: dict[str, str] = {}
    counter = itertools.count(1)
    for node in _nodes(schema):
        if "__id__" in node:
            # Whether two equal literals are one object is the interpreter's whim: each gets a number of its own.
            literal = node.get("is_json", False)
            node["__id__"] = next(counter) if literal else ids.setdefault(node["__id__"], next(counter))
        if isinstance(node.get("file"), str):
            suffix = PurePosixPath(node["file"]).suffix
            node["file"] = files.setdefault(node["file"], f"{len(files) + 1:04d}{suffix}")
        # The bin mapper of gradient boosting keeps the thread count of the machine that trained it.
        if node.get("__class__") == "_BinMapper":
            node["content"]["content"]["n_threads"]["content"] = "1"
    return files


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from _nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from _nodes(child)


def _canonical_part(name: str, content: bytes) -> bytes:
    """A sparse matrix is a zip file inside the zip file."""
    if not name.endswith(".npz"):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return pack_zip({member: archive.read(member) for member in archive.namelist()})


def mlflow_types(text: str) -> list[str]:
    """The types that the text of an `MLmodel` names, as `mlflow_description` writes them."""
    return re.findall(r"^    - (\S+)$", text, flags=re.MULTILINE)


def changed_code(folder: Path, code: str, package: str) -> tuple[str, ...]:
    """What a stored model calls of the team's package, where that is not as it was when the model was trained.

    The model's file holds such functions and classes by name alone: they do what the installed package says.

    Args:
        folder: the model's.
        code: the git tree of the package that it was trained with.
        package: the package's name.

    Returns:
        Dotted names; none where the package is the same, or not installed, or the model calls nothing of it.
    """
    file = folder / MLFLOW_FILE
    text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    named = tuple(name for name in mlflow_types(text) if name.partition(".")[0] == package)
    try:
        return named if named and git_tree(team_package(package)) != code else ()
    except CodeError:
        return ()


def mlflow_description(trusted_types: Iterable[str]) -> str:
    """The text of `MLmodel`: no time, id or version is in it, so that one model is one digest.

    Args:
        trusted_types: the types in `model.skops` that skops does not trust by itself.
    """
    named = sorted(trusted_types)
    types = "".join(f"\n    - {name}" for name in named) if named else " []"
    return f"""\
flavors:
  python_function:
    loader_module: mlflow.sklearn
    model_path: model.skops
    predict_fn: predict
  sklearn:
    pickled_model: model.skops
    serialization_format: skops
    skops_trusted_types:{types}
"""
