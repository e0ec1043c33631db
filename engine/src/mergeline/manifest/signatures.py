"""Signs model folders with the OpenSSF model-signing format and an elliptic-curve key, and checks them.

A signature covers every file of the folder. The library leaves git's own files out and lets a signature name
further exceptions; so the list that was signed is compared with the folder here once more, without exceptions.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from mergeline.errors import DigestError, ModelError, SignatureError
from mergeline.files import write_bytes
from mergeline.manifest.schema import Release
from mergeline.model.artifact import folder_digest, folder_files
from mergeline.release_params import SigningParams

KEY_VARIABLE = "MERGELINE_SIGNING_KEY"
PRIVATE_KEY, PUBLIC_KEY = "signing.key", "signing.pub"
_AGAIN = f"sign what is released: mergeline propose, with {KEY_VARIABLE} set to the private key's file"


def signature_path(digest: str) -> str:
    """Where the signature of a model lies, from the root, as the manifest names it."""
    return f"deploy/signatures/{digest.removeprefix('sha256:')}.json"


def signature_of(release: Release) -> str:
    """The path of a release's signature, from the root: one that was signed later is not named by the manifest."""
    return release.signature or signature_path(release.digest)


@contextlib.contextmanager
def private_key_file() -> Iterator[Path | None]:
    """The private key's file, where `MERGELINE_SIGNING_KEY` names one, or holds the key itself as a secret does."""
    value = os.environ.get(KEY_VARIABLE, "")
    if "-----BEGIN" not in value:
        yield Path(value) if value else None
        return
    with tempfile.TemporaryDirectory() as scratch:  # a folder that its owner alone can enter
        file = Path(scratch, PRIVATE_KEY)
        file.write_text(value.strip() + "\n", encoding="utf-8")
        yield file


def make_key_pair(folder: Path) -> tuple[Path, Path]:
    """Make a new key pair: `signing.key`, readable by its owner alone, and `signing.pub`.

    Returns:
        The private key's file and the public key's file.

    Raises:
        SignatureError: one of the files is there already.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    private, public = folder / PRIVATE_KEY, folder / PUBLIC_KEY
    for path in (private, public):
        if path.exists():
            raise SignatureError(
                "there is a key already", where=str(path), hint="use it, or move it away if you mean to replace it"
            )
    key = ec.generate_private_key(ec.SECP384R1())
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    write_bytes(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign_folder(folder: Path, root: Path, signing: SigningParams, private_key: Path | None = None) -> str:
    """Sign a model folder; a good signature that is there already stays as it is.

    Args:
        folder: the model folder.
        root: the repository.
        signing: names the public key, which must be the private key's other half.
        private_key: the key's file; None takes the one that `MERGELINE_SIGNING_KEY` names.

    Returns:
        The signature's path from the root.

    Raises:
        SignatureError: there is no private key, it cannot be used, or it is not the public key's other half.
        ModelError: there is no model folder.
    """
    name = signature_path(folder_digest(folder))
    public_key = root / signing.public_key
    with contextlib.suppress(SignatureError):
        verify_folder(folder, root / name, public_key)
        return name
    with private_key_file() if private_key is None else contextlib.nullcontext(private_key) as key:
        if key is None:
            raise SignatureError(
                "there is no private key to sign with",
                where=KEY_VARIABLE,
                hint=f"set {KEY_VARIABLE} to the key that {signing.public_key} belongs to, or to its file",
            )
        write_bytes(root / name, _signed(folder, key))
    try:
        verify_folder(folder, root / name, public_key)
    except SignatureError:
        (root / name).unlink()
        raise
    return name


def sign_release(release: Release, root: Path, signing: SigningParams, fetch: Callable[[str, Path], object]) -> str:
    """Sign the stored model of a release, as `sign_folder` does.

    Args:
        release: names the model.
        root: the repository.
        signing: names the public key.
        fetch: writes the files of an object of the store into a folder.

    Returns:
        The signature's path from the root.

    Raises:
        SignatureError: as `sign_folder`.
        StoreError: the model is not in the store.
        DigestError: the store has another one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "model")
        fetch(release.source, folder)
        found = folder_digest(folder)
        if found != release.digest:
            raise DigestError(
                f"the stored model is {found}, and version {release.version} is {release.digest}",
                where=release.source,
                hint="put the right one into the store: mergeline verify",
            )
        return sign_folder(folder, root, signing)


def verify_folder(folder: Path, signature: Path, public_key: Path) -> None:
    """Check that `signature` was made with the public key's other half, over these files and no others.

    Raises:
        SignatureError: the signature or the key is missing or damaged, another key signed, or a file was
            changed, added or taken away.
        ModelError: there is no model folder, or it holds a link.
    """
    present = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in folder_files(folder)}
    if not signature.is_file():
        raise SignatureError(
            "the model is not signed, and the policy is `required`: the signature's file is missing",
            where=str(signature),
            hint=_AGAIN,
        )
    if not public_key.is_file():
        raise SignatureError(
            "the public key is missing",
            where=str(public_key),
            hint="name the right file in params.yaml under release.signing.public_key",
        )
    content = signature.read_bytes()
    refusal = _library_refusal(folder, content, public_key)
    if refusal and not refusal.startswith("Signature mismatch"):
        raise SignatureError(refusal, where=str(signature), hint=_AGAIN)
    signed = _signed_files(content, signature)
    for what, names in (
        ("was added after signing", present.keys() - signed.keys()),
        ("was signed and is missing", signed.keys() - present.keys()),
        (
            "was changed after signing",
            {name for name in present.keys() & signed.keys() if present[name] != signed[name]},
        ),
    ):
        if names:
            raise SignatureError(
                f"{min(names)} {what}",
                where=str(folder),
                hint="do not use this folder: fetch the model again, and ask who changed it",
            )
    if refusal:
        raise SignatureError(refusal, where=str(folder), hint="do not use this folder: fetch the model again")


def check_release(folder: Path, root: Path, signing: SigningParams, signature: str) -> None:
    """Check a release's signature as the policy asks: `off` asks nothing, `required` asks for a good one.

    Args:
        folder: the model folder.
        root: the repository.
        signing: the policy and the public key.
        signature: the signature's path from the root, see `signature_of`.

    Raises:
        SignatureError: the policy is `required`, and the model is unsigned or its signature is not good.
    """
    if signing.policy != "off":
        verify_folder(folder, root / signature, root / signing.public_key)


def _signed(folder: Path, key: Path) -> bytes:
    """The signature's bytes."""
    import model_signing.hashing
    import model_signing.signing

    hashing = model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
    try:
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as cause:  # AttributeError: a key of another family
        raise SignatureError(
            f"the private key cannot be used: {cause}",
            where=str(key),
            hint="give an unencrypted PEM file with an elliptic-curve key (P-256, P-384 or P-521)",
        ) from cause
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch, "signature.json")
        try:
            config.set_hashing_config(hashing).sign(folder, draft)
        except (OSError, ValueError) as cause:
            raise ModelError(
                f"the folder cannot be signed: {cause}", where=str(folder), hint="make it again"
            ) from cause
        return draft.read_bytes()


def _library_refusal(folder: Path, content: bytes, public_key: Path) -> str:
    """What model-signing holds against the folder and the signature; nothing, if it accepts them."""
    import model_signing.hashing
    import model_signing.verifying
    from cryptography.exceptions import InvalidSignature

    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        copy = Path(scratch, "signature.json")
        copy.write_bytes(content)
        hashing = model_signing.hashing.Config().set_ignored_paths(paths=[], ignore_git_paths=False)
        try:
            config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        except (ValueError, TypeError, AttributeError) as cause:  # AttributeError: a key of another family
            raise SignatureError(
                f"the public key cannot be used: {cause}",
                where=str(public_key),
                hint="give a PEM file with an elliptic-curve key (P-256, P-384 or P-521)",
            ) from cause
        try:
            config.set_hashing_config(hashing).verify(folder, copy)
        except InvalidSignature:
            return "the signature was not made by this key over this text"
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as cause:
            if str(cause).startswith("Key mismatch"):
                return f"another key than {public_key.name} signed the model"
            return str(cause) if str(cause).startswith("Signature mismatch") else f"not a signature: {cause}"
    return ""


def _signed_files(content: bytes, where: Path) -> dict[str, str]:
    """The files that a signature lists, and the sha256 of each; its key must have been checked before."""
    try:
        statement = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
        return {item["name"]: item["digest"] for item in statement["predicate"]["resources"]}
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise SignatureError(f"the signature lists no files: {cause}", where=str(where), hint=_AGAIN) from cause
