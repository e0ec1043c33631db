import base64
import json
import shutil
import stat

import pytest
from release_examples import model_folder

from mergeline.errors import ModelError, SignatureError
from mergeline.manifest.signatures import (
    KEY_VARIABLE,
    check_release,
    make_key_pair,
    sign_folder,
    signature_path,
    verify_folder,
)
from mergeline.model.artifact import folder_digest
from mergeline.release_params import SigningParams

REQUIRED = SigningParams(policy="required", public_key="deploy/signing.pub")


@pytest.fixture
def key(tmp_path):
    private, public = make_key_pair(tmp_path / "keys")
    (tmp_path / "deploy").mkdir()
    shutil.copy(public, tmp_path / "deploy" / "signing.pub")
    return private


@pytest.fixture
def model(tmp_path):
    return model_folder(tmp_path / "model")


@pytest.fixture
def signed(tmp_path, key, model):
    return sign_folder(model, tmp_path, REQUIRED, key)


def test_a_signed_folder_is_accepted(tmp_path, model, signed):
    assert signed == signature_path(folder_digest(model))
    check_release(model, tmp_path, REQUIRED, signed)


def test_the_folder_may_have_another_name_when_it_is_checked(tmp_path, model, signed):
    check_release(model.rename(tmp_path / "fetched"), tmp_path, REQUIRED, signed)


def test_the_private_key_is_readable_by_its_owner_alone(key):
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path, key):
    before = key.read_bytes()

    with pytest.raises(SignatureError, match="there is a key already"):
        make_key_pair(tmp_path / "keys")

    assert key.read_bytes() == before


def test_the_key_may_come_from_the_environment(tmp_path, key, model, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, str(key))

    check_release(model, tmp_path, REQUIRED, sign_folder(model, tmp_path, REQUIRED))


def test_signing_again_leaves_a_good_signature_as_it_is(tmp_path, key, model, signed):
    before = (tmp_path / signed).read_bytes()

    sign_folder(model, tmp_path, REQUIRED, key)

    assert (tmp_path / signed).read_bytes() == before


def test_signing_needs_no_network_and_says_nothing(tmp_path, key, model, capfd, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was made")

    monkeypatch.setattr("socket.socket.connect", refuse)

    check_release(model, tmp_path, REQUIRED, sign_folder(model, tmp_path, REQUIRED, key))

    assert capfd.readouterr() == ("", "")


class TestRefusals:
    def refusal(self, tmp_path, model, signed):
        with pytest.raises(SignatureError) as caught:
            check_release(model, tmp_path, REQUIRED, signed)
        assert caught.value.hint
        return caught.value.what

    def test_an_unsigned_model_when_a_signature_is_required(self, tmp_path, model):
        found = self.refusal(tmp_path, model, signature_path(folder_digest(model)))
        assert found.startswith("the model is not signed, and the policy is `required`")

    def test_nothing_is_asked_when_the_policy_is_off(self, tmp_path, model):
        check_release(model, tmp_path, SigningParams(policy="off"), "deploy/signatures/none.json")

    def test_a_missing_signature_file(self, tmp_path, model, signed):
        (tmp_path / signed).unlink()

        assert "the signature's file is missing" in self.refusal(tmp_path, model, signed)

    def test_a_missing_public_key(self, tmp_path, model, signed):
        (tmp_path / "deploy" / "signing.pub").unlink()

        assert self.refusal(tmp_path, model, signed) == "the public key is missing"

    def test_a_changed_file(self, tmp_path, model, signed):
        (model / "model.skops").write_bytes(b"other")

        assert self.refusal(tmp_path, model, signed) == "model.skops was changed after signing"

    @pytest.mark.parametrize("name", ["extra.py", "parts/extra", ".gitignore", ".gitattributes", ".github/x", ".git/x"])
    def test_a_file_that_was_added_even_where_git_keeps_its_own(self, tmp_path, model, signed, name):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("x")

        assert self.refusal(tmp_path, model, signed) == f"{name} was added after signing"

    def test_a_file_that_was_taken_away(self, tmp_path, model, signed):
        (model / "signature.json").unlink()

        assert self.refusal(tmp_path, model, signed) == "signature.json was signed and is missing"

    def test_a_link_to_a_file_elsewhere(self, tmp_path, model, signed):
        (model / "link").symlink_to(tmp_path / "deploy" / "signing.pub")

        with pytest.raises(ModelError, match="neither a file nor a folder"):
            check_release(model, tmp_path, REQUIRED, signed)

    def test_the_signature_of_another_model(self, tmp_path, key, model, signed):
        other = model_folder(tmp_path / "other", seed=8)

        assert "changed after signing" in self.refusal(tmp_path, other, signed)

    def test_another_key(self, tmp_path, model, signed):
        _, public = make_key_pair(tmp_path / "thief")
        shutil.copy(public, tmp_path / "deploy" / "signing.pub")

        assert self.refusal(tmp_path, model, signed) == "another key than signing.pub signed the model"

    def test_another_key_that_claims_to_be_the_right_one(self, tmp_path, key, model, signed):
        right = json.loads((tmp_path / signed).read_text())["verificationMaterial"]
        shutil.copy(make_key_pair(tmp_path / "thief")[1], tmp_path / "deploy" / "signing.pub")
        (tmp_path / signed).unlink()
        sign_folder(model, tmp_path, REQUIRED, tmp_path / "thief" / "signing.key")
        forged = json.loads((tmp_path / signed).read_text()) | {"verificationMaterial": right}
        (tmp_path / signed).write_text(json.dumps(forged))
        shutil.copy(tmp_path / "keys" / "signing.pub", tmp_path / "deploy" / "signing.pub")

        assert self.refusal(tmp_path, model, signed) == "the signature was not made by this key over this text"

    def test_a_list_of_files_that_was_changed_after_signing(self, tmp_path, model, signed):
        bundle = json.loads((tmp_path / signed).read_text())
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        statement["predicate"]["resources"][0]["digest"] = "0" * 64
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
        (tmp_path / signed).write_text(json.dumps(bundle))

        assert self.refusal(tmp_path, model, signed) == "the signature was not made by this key over this text"

    @pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"verificationMaterial": {}}', "\0"])
    def test_a_file_that_is_no_signature(self, tmp_path, model, signed, content):
        (tmp_path / signed).write_text(content)

        assert self.refusal(tmp_path, model, signed).startswith("not a signature")

    def test_a_public_key_that_is_none(self, tmp_path, model, signed):
        (tmp_path / "deploy" / "signing.pub").write_text("hello")

        assert "the public key cannot be used" in self.refusal(tmp_path, model, signed)

    def test_a_signature_by_the_right_key_that_leaves_files_out(self, tmp_path, key, model):
        import model_signing

        hashing = model_signing.hashing.Config().set_ignored_paths(paths=["model.skops"], ignore_git_paths=False)
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(hashing).sign(model, tmp_path / "loose.json")

        with pytest.raises(SignatureError, match=r"model\.skops was added after signing"):
            verify_folder(model, tmp_path / "loose.json", tmp_path / "deploy" / "signing.pub")


class TestSigningRefuses:
    def test_without_a_private_key(self, tmp_path, key, model, monkeypatch):
        monkeypatch.delenv(KEY_VARIABLE, raising=False)

        with pytest.raises(SignatureError, match="there is no private key") as caught:
            sign_folder(model, tmp_path, REQUIRED)

        assert KEY_VARIABLE in caught.value.hint

    def test_a_private_key_whose_other_half_is_not_trusted(self, tmp_path, key, model):
        thief, _ = make_key_pair(tmp_path / "thief")

        with pytest.raises(SignatureError, match="another key"):
            sign_folder(model, tmp_path, REQUIRED, thief)

        assert not (tmp_path / signature_path(folder_digest(model))).exists()

    @pytest.mark.parametrize("content", [None, "hello"])
    def test_a_private_key_that_is_missing_or_none(self, tmp_path, key, model, content):
        bad = tmp_path / "bad.key"
        if content is not None:
            bad.write_text(content)

        with pytest.raises(SignatureError, match="the private key cannot be used"):
            sign_folder(model, tmp_path, REQUIRED, bad)

    def test_a_private_key_of_another_family(self, tmp_path, key, model):
        from cryptography.hazmat.primitives.asymmetric import ed25519
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        other = ed25519.Ed25519PrivateKey.generate()
        (tmp_path / "ed.key").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

        with pytest.raises(SignatureError, match="the private key cannot be used"):
            sign_folder(model, tmp_path, REQUIRED, tmp_path / "ed.key")
