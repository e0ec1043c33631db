"""Copies what production is asked to serve into a folder that a server needs nothing beside."""

from __future__ import annotations

import shutil
from pathlib import Path

from mergeline.files import write_bytes
from mergeline.home import Home, find_homes
from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
from mergeline.params import PARAMS_FILE, read_params
from mergeline.store.objects import Store

STORE_FOLDER = Path("store")


def bundle(root: Path, store: Store, into: Path) -> tuple[str, ...]:
    """Copy params, manifest, signatures, the public key, and the objects of every model that the manifests name.

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
        key = read_params(folder / PARAMS_FILE).release.signing.public_key
        spec = read_manifest(folder / MANIFEST_FILE).spec
        releases = [release for release in (spec.stable, spec.previous, spec.candidate) if release is not None]
        names = [PARAMS_FILE, MANIFEST_FILE]
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
