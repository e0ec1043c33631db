"""Copies what production is asked to serve into a folder that a server needs nothing beside."""

from __future__ import annotations

import shutil
from pathlib import Path

from mergeline.files import write_bytes
from mergeline.home import Home, find_homes
from mergeline.manifest.schema import MANIFEST_FILE, manifest_path, read_manifest
from mergeline.params import PARAMS_FILE, read_params
from mergeline.store.objects import Store

STORE_FOLDER = Path("store")


def bundle(root: Path, store: Store, into: Path) -> tuple[str, ...]:
    """Copy params, manifests, signatures, the public key, and the objects of every model that the manifests name.

    The folder is laid out as the repository is, with its homes, and its store in `store/`. What was there before is
    deleted.

    Args:
        root: the repository.
        store: where the objects are.
        into: the folder to make.

    Returns:
        The digests of the models: stable, previous and candidate of each home, as far as there are any.

    Raises:
        ParamsError, ManifestError: a document is missing or wrong.
        StoreError: an object is missing, or the store does not answer.
        DigestError: an object holds other bytes than its name promises.
    """
    shutil.rmtree(into, ignore_errors=True)
    digests: dict[str, None] = {}
    for home in find_homes(root).values() or [Home(root)]:
        folder = home.folder
        params = read_params(folder / PARAMS_FILE).release
        key, paths = (
            params.signing.public_key,
            (manifest_path(params.environments, each) for each in params.environments),
        )
        there = [path for path in paths if path == MANIFEST_FILE or (folder / path).exists()]
        specs = [read_manifest(folder / path).spec for path in there]
        named = [release for spec in specs for release in (spec.stable, spec.previous, spec.candidate)]
        releases = [release for release in named if release is not None]
        names = [PARAMS_FILE, *there]
        names += [Path(release.signature) for release in releases if release.signature is not None]
        if (folder / key).exists():
            names.append(Path(key))
        for name in names:
            write_bytes(into / home.place / name, (folder / name).read_bytes())
        for release in releases:
            digests[release.digest] = None
            for path, content in store.objects(release.source):
                write_bytes(into / STORE_FOLDER / path, content)
    return tuple(digests)
