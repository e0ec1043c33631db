"""Released models with the verdict that their evidence names, and attestations of them."""

from release_examples import evaluation, release

from mergeline.ci.attest import PREDICATE_TYPE
from mergeline.evaluate.results import GateCheck, GateOutcome, GateVerdict, Status
from mergeline.files import canonical_json
from mergeline.manifest.schema import Evidence
from mergeline.model import lineage

ADDRESS = "https://github.com/acme/flights"
MAIN = f"{ADDRESS}/.github/workflows/model.yml@refs/heads/main"


def verdict(digest, **changes):
    values = {
        "accepted": True,
        "outcome": GateOutcome.NO_CHAMPION,
        "headline": "the first model",
        "checks": (GateCheck(name="size", status=Status.PASS, value="1.0 MB", bound="50 MB", meaning="small enough"),),
        "comparison": None,
        "challenger_digest": digest,
        "holdout": evaluation().holdout,
    }
    return GateVerdict(**(values | changes))


def released(**changes):
    """A release whose evidence names the digest of its verdict."""
    plain = release(3, pull=42)
    found = verdict(plain.digest, **changes)
    gate = lineage.sha256(canonical_json(found.model_dump(mode="json")))
    evidence = Evidence(pull=42, metrics=plain.evidence.metrics, gate=gate)
    return plain.model_copy(update={"evidence": evidence}), found


def statement(model, found, **changes):
    values = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": model.digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": found.model_dump(mode="json"),
    }
    return values | changes


def attested(sigstore, model, found, *, identity=MAIN, repository=ADDRESS, **changes):
    return sigstore.attest(statement(model, found, **changes), identity=identity, repository=repository)
