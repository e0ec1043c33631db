"""The model folder: one digest, and a loader that refuses what it should."""

import json
import zipfile

import pytest

from mergeline.errors import DigestError, ModelError, UntrustedTypeError, VersionError
from mergeline.model.artifact import folder_bytes, folder_digest, load_model
from toy_data import orders

OWN_TYPE = "toy.model.doubled"


def rewrite_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class TestDigest:
    def test_digest_is_sha256_over_sorted_path_nul_hash_lines(self, tmp_path):
        import hashlib

        (tmp_path / "m" / "sub").mkdir(parents=True)
        (tmp_path / "m" / "b").write_bytes(b"2")
        (tmp_path / "m" / "sub" / "a").write_bytes(b"1")
        lines = b"".join(
            name + b"\0" + hashlib.sha256(content).hexdigest().encode() + b"\n"
            for name, content in ((b"b", b"2"), (b"sub/a", b"1"))
        )
        assert folder_digest(tmp_path / "m") == "sha256:" + hashlib.sha256(lines).hexdigest()
        assert folder_bytes(tmp_path / "m") == 2

    def test_an_extra_file_changes_the_digest(self, trained):
        folder = trained()
        before = folder_digest(folder)
        (folder / "extra").write_bytes(b"")
        assert folder_digest(folder) != before

    def test_a_link_is_refused(self, trained):
        folder = trained()
        (folder / "link").symlink_to(folder / "lineage.json")
        with pytest.raises(ModelError, match="neither a file nor a folder"):
            folder_digest(folder)

    def test_links_that_dvc_made_into_its_cache_are_read(self, trained, tmp_path):
        folder = trained()
        before = folder_digest(folder)
        cached = tmp_path / "cache" / "files" / "md5" / "ab" / ("c" * 30)
        cached.parent.mkdir(parents=True)
        (folder / "lineage.json").rename(cached)
        (folder / "lineage.json").symlink_to(cached)
        assert folder_digest(folder) == before


class TestLoading:
    def test_a_good_folder_predicts(self, trained):
        folder = trained()
        model = load_model(folder, digest=folder_digest(folder))
        scores = model.predict(orders("2024-04", 50))
        assert scores.shape == (50,)
        assert ((scores > 0) & (scores < 1)).all()

    def test_columns_may_come_in_any_order_and_with_others(self, trained):
        model = load_model(trained())
        frame = orders("2024-04", 20)
        shuffled = frame[list(reversed(frame.columns))].assign(other=1)
        assert (model.predict(shuffled) == model.predict(frame)).all()

    def test_a_missing_column_is_named(self, trained):
        model = load_model(trained())
        with pytest.raises(ModelError, match="lack columns channel, amount"):
            model.predict(orders("2024-04", 5).drop(columns=["amount", "channel"]))

    @pytest.mark.parametrize("name", ["model.skops", "signature.json", "lineage.json", "profile.json"])
    def test_one_flipped_bit_anywhere_is_a_wrong_digest(self, trained, name):
        folder = trained()
        digest = folder_digest(folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        with pytest.raises(DigestError, match="expected sha256:"):
            load_model(folder, digest=digest)

    def test_another_scikit_learn_is_a_version_error(self, trained):
        folder = trained()
        rewrite_json(folder / "lineage.json", libraries={"scikit-learn": "0.24.0"})
        with pytest.raises(VersionError, match=r"made by scikit-learn 0\.24\.0, installed is"):
            load_model(folder)

    def test_a_type_that_is_not_trusted_is_refused_before_it_is_loaded(self, trained):
        folder = trained(model={"factory": "toy.model:with_own_function"})
        with pytest.raises(UntrustedTypeError, match=OWN_TYPE):
            load_model(folder)
        assert load_model(folder, trusted_types=(OWN_TYPE,)).predict(orders("2024-04", 5)).shape == (5,)

    @pytest.mark.parametrize("name", ["model.skops", "signature.json", "lineage.json"])
    def test_a_missing_part_is_named(self, trained, name):
        folder = trained()
        (folder / name).unlink()
        with pytest.raises(ModelError, match=name):
            load_model(folder)

    def test_a_truncated_model_is_told(self, trained):
        path = trained() / "model.skops"
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ModelError, match="not a skops file"):
            load_model(path.parent)

    def test_a_zip_without_a_model_is_told(self, trained):
        path = trained() / "model.skops"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "hello")
        with pytest.raises(ModelError, match="not a skops file"):
            load_model(path.parent)
