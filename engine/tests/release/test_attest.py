"""What counts as an attestation of a model, and what is refused, against a Sigstore of the tests' own."""

import base64
import copy
import json

import pytest
from attest_examples import ADDRESS, MAIN, attested, released, statement
from own_sigstore import OwnSigstore, verifier_of
from release_examples import release, sha256

from mergeline.ci.attest import Found, Origin, check_bundle, is_private, judge, trusted_verifier
from mergeline.errors import SignatureError
from mergeline.evaluate.results import Comparison, Estimate, GateOutcome, PairedMetric, Status

ORIGIN = Origin(server_url="https://github.com", repository="acme/flights")


@pytest.fixture(scope="module")
def sigstore():
    return OwnSigstore()


@pytest.fixture(scope="module")
def verifier(sigstore, tmp_path_factory):
    return verifier_of(sigstore, tmp_path_factory.mktemp("trust"))


class TestWhoSigned:
    @pytest.mark.parametrize("ref", ["refs/heads/main", "refs/pull/42/merge"])
    def test_this_repository_s_model_workflow_is_believed(self, sigstore, verifier, ref):
        model, found = released()
        identity = f"{ADDRESS}/.github/workflows/model.yml@{ref}"
        check_bundle(attested(sigstore, model, found, identity=identity), model, ORIGIN, verifier)

    @pytest.mark.parametrize(
        "identity",
        [
            f"{ADDRESS}/.github/workflows/checks.yml@refs/heads/main",
            f"{ADDRESS}/.github/workflows/model.yml@refs/heads/feature",
            f"{ADDRESS}/.github/workflows/model.yml@refs/pull/43/merge",
            f"{ADDRESS}/.github/workflows/model.yml@refs/tags/main",
            "https://github.com/mallory/flights/.github/workflows/model.yml@refs/heads/main",
        ],
    )
    def test_another_workflow_branch_or_pull_request_is_not(self, sigstore, verifier, identity):
        model, found = released()
        with pytest.raises(SignatureError, match="somebody else signed it"):
            check_bundle(attested(sigstore, model, found, identity=identity), model, ORIGIN, verifier)

    def test_a_run_of_the_workflow_in_another_repository_is_not(self, sigstore, verifier):
        model, found = released()
        bundle = attested(sigstore, model, found, repository="https://github.com/mallory/flights")
        with pytest.raises(SignatureError, match="OIDCSourceRepositoryURI"):
            check_bundle(bundle, model, ORIGIN, verifier)

    def test_another_issuer_of_identities_is_not(self, sigstore, verifier):
        model, found = released()
        bundle = sigstore.attest(
            statement(model, found), identity=MAIN, repository=ADDRESS, issuer="https://accounts.example"
        )
        with pytest.raises(SignatureError, match="somebody else signed it"):
            check_bundle(bundle, model, ORIGIN, verifier)

    def test_another_sigstore_is_not(self, verifier):
        model, found = released()
        with pytest.raises(SignatureError):
            check_bundle(attested(OwnSigstore(), model, found), model, ORIGIN, verifier)

    def test_a_tenant_s_own_issuer_is_asked_for(self):
        tenant = Origin(server_url="https://acme.ghe.com", repository="acme/flights")
        assert tenant.issuer == "https://token.actions.acme.ghe.com"
        assert ORIGIN.issuer == "https://token.actions.githubusercontent.com"


class TestWhatWasSigned:
    def test_a_payload_that_was_changed_is_refused(self, sigstore, verifier):
        model, found = released()
        bundle = attested(sigstore, model, found)
        payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        payload["predicate"]["headline"] = "better than it is"
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
        with pytest.raises(SignatureError, match="signature"):
            check_bundle(bundle, model, ORIGIN, verifier)

    @pytest.mark.parametrize(
        "place",
        [
            ("inclusionPromise", "signedEntryTimestamp"),
            ("inclusionProof", "rootHash"),
            ("logId", "keyId"),
        ],
    )
    def test_a_log_entry_that_was_changed_is_refused(self, sigstore, verifier, place):
        model, found = released()
        bundle = copy.deepcopy(attested(sigstore, model, found))
        entry = bundle["verificationMaterial"]["tlogEntries"][0]
        content = bytearray(base64.b64decode(entry[place[0]][place[1]]))
        content[-1] ^= 1
        entry[place[0]][place[1]] = base64.b64encode(bytes(content)).decode()
        with pytest.raises(SignatureError):
            check_bundle(bundle, model, ORIGIN, verifier)

    def test_another_model_is_refused(self, sigstore, verifier):
        model, found = released()
        other = [{"name": "model", "digest": {"sha256": "0" * 64}}]
        with pytest.raises(SignatureError, match="another model"):
            check_bundle(attested(sigstore, model, found, subject=other), model, ORIGIN, verifier)

    def test_another_kind_of_statement_is_refused(self, sigstore, verifier):
        model, found = released()
        bundle = attested(sigstore, model, found, predicateType="https://slsa.dev/provenance/v1")
        with pytest.raises(SignatureError, match="not the gate's verdict"):
            check_bundle(bundle, model, ORIGIN, verifier)

    def test_another_verdict_than_the_manifest_s_is_refused(self, sigstore, verifier):
        model, found = released()
        kinder = found.model_copy(update={"headline": "better than it is"})
        with pytest.raises(SignatureError, match=r"evidence\.gate"):
            check_bundle(attested(sigstore, model, kinder), model, ORIGIN, verifier)

    @pytest.mark.parametrize("changes", [{"accepted": False}, {"challenger_digest": sha256("another")}])
    def test_a_verdict_that_does_not_accept_this_model_is_refused(self, sigstore, verifier, changes):
        model, found = released(**changes)
        with pytest.raises(SignatureError, match="did not accept this model"):
            check_bundle(attested(sigstore, model, found), model, ORIGIN, verifier)

    @pytest.mark.parametrize("predicate", [{}, {"accepted": True}, None])
    def test_a_predicate_that_is_no_verdict_is_refused(self, sigstore, verifier, predicate):
        model, found = released()
        with pytest.raises(SignatureError):
            check_bundle(attested(sigstore, model, found, predicate=predicate), model, ORIGIN, verifier)

    @pytest.mark.parametrize("payload", [b"not json", b"[]", b'{"subject": 7}', b'{"subject": [7]}'])
    def test_what_is_no_statement_is_refused(self, sigstore, verifier, payload):
        model, _ = released()
        bundle = sigstore.attest(payload, identity=MAIN, repository=ADDRESS)
        with pytest.raises(SignatureError):
            check_bundle(bundle, model, ORIGIN, verifier)

    def test_another_type_of_payload_is_refused(self, sigstore, verifier):
        model, found = released()
        bundle = sigstore.attest(statement(model, found), identity=MAIN, repository=ADDRESS, kind="text/plain")
        with pytest.raises(SignatureError, match="not a statement"):
            check_bundle(bundle, model, ORIGIN, verifier)

    @pytest.mark.parametrize("bundle", [{}, {"mediaType": 7}, {"verificationMaterial": {"tlogEntries": [{}]}}])
    def test_what_is_no_bundle_is_refused(self, verifier, bundle):
        model, _ = released()
        with pytest.raises(SignatureError):
            check_bundle(bundle, model, ORIGIN, verifier)

    def test_numbers_that_lost_their_point_on_the_way_are_the_same_numbers(self, sigstore, verifier):
        """JavaScript writes 1.0 as 1 when the verdict passes through actions/attest."""
        one = Estimate(value=1.0, low=0.0, high=2.0)
        metric = PairedMetric(name="roc_auc", higher_is_better=True, champion=one, challenger=one, gain=one)
        comparison = Comparison(
            champion_digest=sha256("champion"),
            champion_version=2,
            outcome=GateOutcome.BETTER,
            reason="better",
            metrics=(metric,),
            slices=(),
            delong=None,
        )
        model, found = released(comparison=comparison)
        text = json.dumps(statement(model, found))
        shorter = text.replace(".0,", ",").replace(".0}", "}")
        assert shorter != text
        bundle = sigstore.attest(shorter.encode(), identity=MAIN, repository=ADDRESS)
        check_bundle(bundle, model, ORIGIN, verifier)


class TestWhatItComesTo:
    def test_one_good_attestation_among_bad_ones_is_enough(self):
        check = judge("stable", release(1), Found(bundles=({}, {})), ["bad"], signed=False, required=True)
        assert check.status is Status.PASS

    def test_bad_ones_alone_fail(self):
        check = judge("stable", release(1), Found(bundles=({},)), ["another signed"], signed=True, required=False)
        assert check.status is Status.FAIL
        assert "another signed" in check.value

    @pytest.mark.parametrize(("signed", "words"), [(True, "stands alone"), (False, "neither attested nor signed")])
    def test_none_to_be_had_is_said(self, signed, words):
        check = judge("stable", release(1), Found(absence="GHES"), [], signed=signed, required=False)
        assert check.status is Status.WARN
        assert "GHES" in check.value
        assert words in check.meaning

    def test_none_to_be_had_fails_where_one_is_required(self):
        check = judge("stable", release(1), Found(absence="GHES"), [], signed=True, required=True)
        assert check.status is Status.FAIL

    def test_a_bundle_without_an_entry_in_a_public_log_is_a_private_one(self, sigstore):
        model, found = released()
        bundle = attested(sigstore, model, found)
        assert not is_private(bundle)
        del bundle["verificationMaterial"]["tlogEntries"]
        assert is_private(bundle)


def test_a_file_without_keys_is_told(tmp_path):
    file = tmp_path / "root.json"
    file.write_text("{}")
    with pytest.raises(SignatureError, match="not a trusted root"):
        trusted_verifier(file)
