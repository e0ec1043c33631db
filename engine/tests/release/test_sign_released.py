"""Signing what was released before the policy asked for signatures, or before the key was replaced."""

import pytest
from release_examples import model_folder, params, store, stored_release

from mergeline.errors import SignatureError
from mergeline.evaluate.results import Status
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.manifest.schema import parse_manifest
from mergeline.manifest.signatures import KEY_VARIABLE, make_key_pair
from mergeline.release.proposal import Base
from mergeline.release.propose import sign_released
from mergeline.release.verify import verify

REQUIRED = params(release={"signing": {"policy": "required"}, "environments": ["staging", "production"]})


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a key, whose staging serves version 3 after 2, and whose production version 1."""
    new_key(tmp_path, monkeypatch)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n remote = s\n['remote \"s\"']\n url = ../store\n")
    made = [
        stored_release(tmp_path / "store", model_folder(tmp_path / str(version), seed=version), version)
        for version in (1, 2, 3)
    ]
    production = staging = promote(empty_manifest("flights"), made[0])
    for release in made[1:]:
        staging = promote(staging, release)
    (tmp_path / "deploy" / "manifest.yaml").write_text(production)
    (tmp_path / "deploy" / "staging").mkdir()
    (tmp_path / "deploy" / "staging" / "manifest.yaml").write_text(staging)
    return tmp_path


def new_key(root, monkeypatch):
    private, public = make_key_pair(root / f"keys-{len(list(root.glob('keys-*')))}")
    (root / "deploy").mkdir(exist_ok=True)
    (root / "deploy" / "signing.pub").write_bytes(public.read_bytes())
    monkeypatch.setenv(KEY_VARIABLE, str(private))


def base(root):
    production, staging = root / "deploy" / "manifest.yaml", root / "deploy" / "staging" / "manifest.yaml"
    return Base(staging.read_text(), others={"production": parse_manifest(production.read_text())})


def signatures(root):
    """What `verify` says of the signatures."""
    checks = verify(root, REQUIRED, store(root / "store"))
    return {check.name: check.status for check in checks if check.name.endswith("signature")}


def test_the_models_of_every_environment_are_signed_once(root):
    assert set(signatures(root).values()) == {Status.FAIL}
    told = []
    assert sign_released(root, REQUIRED, base(root), told.append) == (3, 2, 1)
    assert "signed: version 2, which is released already" in told
    assert signatures(root) == dict.fromkeys(
        ("stable: signature", "staging: stable: signature", "staging: previous: signature"), Status.PASS
    )
    assert sign_released(root, REQUIRED, base(root), told.append) == ()


def test_a_new_key_signs_them_again(root, monkeypatch):
    sign_released(root, REQUIRED, base(root), print)
    new_key(root, monkeypatch)
    assert set(signatures(root).values()) == {Status.FAIL}
    assert len(sign_released(root, REQUIRED, base(root), print)) == 3
    assert set(signatures(root).values()) == {Status.PASS}


def test_nothing_is_signed_where_the_policy_is_off_and_nothing_without_a_key(root, monkeypatch):
    assert sign_released(root, params(), base(root), print) == ()
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(SignatureError, match="no private key"):
        sign_released(root, REQUIRED, base(root), print)
    assert not (root / "deploy" / "signatures").exists()


def test_a_model_whose_bytes_are_not_the_released_ones_is_told_and_not_signed(root):
    manifest = root / "deploy" / "manifest.yaml"
    release = parse_manifest(manifest.read_text()).spec.stable
    for file in (root / "store" / release.source, root / "store" / "none"):
        file.unlink(missing_ok=True)
    told = []
    assert sign_released(root, REQUIRED, base(root), told.append) == (3, 2)
    assert any(line.startswith("warning: version 1 is not signed") for line in told)
    wrong = release.model_copy(update={"source": parse_manifest(base(root).text).spec.stable.source})
    manifest.write_text(promote(empty_manifest("flights"), wrong))
    assert sign_released(root, REQUIRED, base(root), told.append) == ()
    assert f"the stored model is {parse_manifest(base(root).text).spec.stable.digest}" in told[-1]
