"""Signs the model of a proposal, or finds the good signature that is there already."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mergeline.errors import SignatureError
from mergeline.github.git import Git
from mergeline.manifest.schema import Release
from mergeline.manifest.signatures import sign_folder, signature_path
from mergeline.params import SigningParams
from mergeline.store.objects import Read, fetch_folder


def signature_of(
    git: Git, trees: Iterable[str], release: Release, signing: SigningParams, read: Read
) -> tuple[str, str]:
    """The path and the text of the signature of a release's model.

    Args:
        git: the repository.
        trees: where a signature may be already, and where the public key is, the likeliest first: signing twice
            gives two signatures, and the same proposal must give the same commit.
        release: names the model.
        signing: names the public key.
        read: gives the model's objects.

    Raises:
        SignatureError: there is no private key, or it is not the public key's other half.
    """
    key, path = PurePosixPath(signing.public_key), signature_path(release.digest)
    if key.is_absolute() or ".." in key.parts:
        raise SignatureError(
            "the public key lies outside the repository", where=str(key), hint="put it into deploy/, and name it there"
        )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for tree in reversed([*trees]):
            for name in (key.as_posix(), path):
                content = git.blob(f"{tree}:{name}")
                if content is not None:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_bytes(content)
        fetch_folder(release.source, read, root / "model")
        sign_folder(root / "model", root, signing)
        return path, (root / path).read_text(encoding="utf-8")
