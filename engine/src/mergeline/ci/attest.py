"""Checks that this repository's own workflow attested a model, with the gate's verdict as the reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mergeline.documents import Frozen
from mergeline.errors import SignatureError
from mergeline.evaluate.results import Check, GateVerdict, Status
from mergeline.files import canonical_json
from mergeline.manifest.schema import Release
from mergeline.model.lineage import sha256

if TYPE_CHECKING:
    from sigstore.verify import Verifier

PREDICATE_TYPE = "urn:mergeline:gate:v1"
WORKFLOW = ".github/workflows/model.yml"
"""The one workflow whose attestations count; deploy.yml and the schedules call it."""

_STATEMENT = "https://in-toto.io/Statement/v1"
_AGAIN = "run the workflow model.yml on the pull request again, or roll back"


class Origin(Frozen):
    """The repository that must have attested: `server_url` as https://github.com, `repository` as owner/name."""

    server_url: str
    repository: str

    @property
    def issuer(self) -> str:
        """Who vouches for the workflow's identity: GitHub, or the tenant with a host of its own under ghe.com."""
        host = urlsplit(self.server_url).hostname or ""
        own = f"token.actions.{host}" if host.endswith(".ghe.com") else "token.actions.githubusercontent.com"
        return f"https://{own}"

    def identities(self, pull: int | None) -> tuple[str, ...]:
        """The workflow on the refs that it may have run on: main, and the merge of the release's pull request."""
        refs = ["refs/heads/main", *([f"refs/pull/{pull}/merge"] if pull else [])]
        return tuple(f"{self.server_url}/{self.repository}/{WORKFLOW}@{ref}" for ref in refs)


class Found(Frozen):
    """What GitHub keeps for a digest: Sigstore bundles, or the reason why there are none to be had."""

    bundles: tuple[dict[str, Any], ...] = ()
    absence: str = ""


def trusted_verifier(trusted_root: Path | None = None) -> Verifier:
    """The keys of Sigstore's public instance, refreshed through TUF, or those in a file of your own.

    Where the TUF repository cannot be reached the keys that came with the locked library count.

    Raises:
        SignatureError: the file holds no trusted root.
    """
    from sigstore.errors import Error, TUFError
    from sigstore.models import TrustedRoot
    from sigstore.verify import Verifier

    if trusted_root is not None:
        try:
            return Verifier(trusted_root=TrustedRoot.from_file(str(trusted_root)))
        except (Error, OSError, ValueError) as cause:
            raise SignatureError(
                f"not a trusted root of Sigstore: {cause}",
                where=str(trusted_root),
                hint="write it anew: gh attestation trusted-root",
            ) from cause
    try:
        return Verifier.production()
    except TUFError:
        return Verifier.production(offline=True)


def check_bundle(bundle: Mapping[str, Any], release: Release, origin: Origin, verifier: Verifier) -> None:
    """Check one attestation: who signed it, and that it says of this release what the manifest says.

    Args:
        bundle: a Sigstore bundle, as JSON.
        release: what must have been attested.
        origin: the repository whose workflow must have signed.
        verifier: the keys to check with.

    Raises:
        SignatureError: it was changed, somebody else signed it, or it is about another model or verdict.
    """
    statement = _signed_statement(bundle, origin, release.evidence.pull, verifier)
    try:
        subjects = {subject["digest"].get("sha256") for subject in statement["subject"]}
        kind, predicate = statement["predicateType"], statement["predicate"]
    except (KeyError, TypeError, AttributeError) as cause:
        raise _refusal("what was signed is not a statement about a model") from cause
    if release.digest.removeprefix("sha256:") not in subjects:
        raise _refusal("it is about another model")
    if statement.get("_type") != _STATEMENT or kind != PREDICATE_TYPE:
        raise _refusal(f"it states {kind!r}, not the gate's verdict")
    try:
        verdict = GateVerdict.model_validate(predicate)
    except ValueError as cause:
        raise _refusal("its predicate is not a verdict of the gate") from cause
    if not verdict.accepted or verdict.challenger_digest != release.digest:
        raise _refusal("the gate did not accept this model")
    # The types give numbers back the form that they lost in other hands: 1.0 travels as 1.
    found = sha256(canonical_json(verdict.model_dump(mode="json")))
    if found != release.evidence.gate:
        raise _refusal(f"the verdict has the digest {found}, the manifest's evidence.gate is {release.evidence.gate}")


def judge(role: str, release: Release, found: Found, problems: Sequence[str], *, signed: bool, required: bool) -> Check:
    """What the attestations of one release come to.

    Args:
        role: what the release is in the manifest.
        release: the release.
        found: what GitHub keeps for it.
        problems: what is wrong with each of the bundles; fewer problems than bundles means that one is good.
        signed: whether the policy has the model folder signed with a key besides.
        required: whether a release without an attestation may not be deployed.
    """
    name, bound = f"{role}: attestation", "signed by this repository's model.yml, about this model and this verdict"
    if len(problems) < len(found.bundles):
        return Check(
            name=name,
            status=Status.PASS,
            value=release.digest,
            bound=bound,
            meaning="the workflow that judged the model vouches for it",
        )
    if found.bundles:
        return Check(
            name=name, status=Status.FAIL, value="; ".join(dict.fromkeys(problems)), bound=bound, meaning=_AGAIN
        )
    alone = "the signature of the model folder stands alone" if signed else "the model is neither attested nor signed"
    return Check(
        name=name,
        status=Status.FAIL if required else Status.WARN,
        value=f"none: {found.absence}",
        bound=bound if required else f"{bound}, where it is to be had",
        meaning=f"{alone}; {_AGAIN}" if required else alone,
    )


def is_private(bundle: Mapping[str, Any]) -> bool:
    """Whether GitHub's Sigstore for private repositories made the bundle: it has no entry in a public log."""
    material = bundle.get("verificationMaterial")
    return isinstance(material, Mapping) and not material.get("tlogEntries")


def _signed_statement(bundle: Mapping[str, Any], origin: Origin, pull: int | None, verifier: Verifier) -> Any:
    from sigstore.errors import Error
    from sigstore.models import Bundle
    from sigstore.verify import policy

    names = origin.identities(pull)
    rule = policy.AllOf(
        [
            policy.AnyOf([policy.Identity(identity=name, issuer=origin.issuer) for name in names]),
            policy.OIDCSourceRepositoryURI(f"{origin.server_url}/{origin.repository}"),
        ]
    )
    try:
        parsed = Bundle.from_json(json.dumps(bundle))
        kind, payload = verifier.verify_dsse(parsed, rule)
    except Error as cause:
        words = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        if words.endswith("policies succeeded"):
            words = f"somebody else signed it than {' or '.join(names)}"
        raise _refusal(words) from cause
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as cause:
        raise _refusal(f"not a Sigstore bundle: {type(cause).__name__}") from cause
    if kind != "application/vnd.in-toto+json":
        raise _refusal(f"it signs {kind!r}, not a statement")
    try:
        return json.loads(payload)
    except ValueError as cause:
        raise _refusal("what was signed is not JSON") from cause


def _refusal(what: str) -> SignatureError:
    return SignatureError(what, where="attestation", hint=_AGAIN)
