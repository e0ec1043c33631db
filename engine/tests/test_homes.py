"""Which folders are homes, which one a verb acts on, and how their files are named from the root."""

from pathlib import Path, PurePosixPath

import pytest
import yaml
from release_examples import model_folder, params, stored_release

from mergeline.cli.app import enter_home, for_each_home
from mergeline.cli.output import short_path
from mergeline.errors import ParamsError
from mergeline.github.git import Git
from mergeline.github.git_objects import homes_in
from mergeline.home import Home, choose_home, find_homes
from mergeline.image.build import bundle
from mergeline.journal.listing import NoJournalError
from mergeline.manifest.edit import empty_manifest, promote
from mergeline.release.stages import environment_files
from mergeline.serve.container import container_settings
from mergeline.store.objects import Store, configured_store, embedded_store


def text_of(values):
    return yaml.safe_dump(values.model_dump(mode="json", by_alias=True))


@pytest.fixture
def repository(tmp_path):
    """A repository with the model orders at its root, and fraud and iris in models/."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = store\n['remote \"store\"']\n    url = ../store\n")
    for place, name in ((".", "orders"), ("models/fraud", "fraud"), ("models/iris", "iris")):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "params.yaml").write_text(text_of(params(name=name)))
    (tmp_path / "models" / "notes").mkdir()
    return tmp_path


class TestEveryHome:
    def act(self, repository, monkeypatch, *without):
        monkeypatch.chdir(repository)

        def look(name, _):
            if name in without:
                raise NoJournalError("there is no journal", hint="wait")

        return for_each_home(look, every=True)

    def test_a_new_model_without_a_journal_is_told_and_is_no_failure(self, repository, monkeypatch, capsys):
        assert self.act(repository, monkeypatch, "iris") == ["iris"]
        assert "iris: not looked at: there is no journal" in capsys.readouterr().err

    def test_where_no_model_has_one_it_is_a_failure(self, repository, monkeypatch):
        with pytest.raises(SystemExit, match="1"):
            self.act(repository, monkeypatch, "orders", "fraud", "iris")


class TestFinding:
    def test_the_root_comes_first_under_the_name_in_its_params(self, repository):
        assert list(find_homes(repository)) == ["orders", "fraud", "iris"]

    def test_a_commit_has_the_same_homes(self, repository):
        git = Git.init(repository)
        git.run("add", "--all")
        git.commit("Start", ".")
        found = homes_in(git, "HEAD")
        assert {name: home.place for name, home in found.items()} == {
            name: home.place for name, home in find_homes(repository).items()
        }

    def test_a_repository_without_homes_in_it_is_one(self, tmp_path):
        assert Home.at(tmp_path) == Home(tmp_path)
        assert find_homes(tmp_path) == {}

    def test_a_folder_in_some_other_models_folder_is_no_home_of_it(self, tmp_path):
        folder = tmp_path / "models" / "fraud"
        folder.mkdir(parents=True)
        assert Home.at(folder).root == folder


class TestChoosing:
    def test_a_verb_acts_where_one_stands(self, repository):
        assert choose_home(repository, None).model == ""
        assert choose_home(repository / "models" / "iris", None).model == "iris"

    def test_or_on_the_model_that_is_named_from_anywhere(self, repository):
        assert choose_home(repository / "models" / "iris", "orders").folder == repository
        assert choose_home(repository, "fraud").place == PurePosixPath("models/fraud")

    def test_paths_are_told_from_where_one_stood(self, repository, monkeypatch):
        monkeypatch.chdir(repository)
        enter_home("iris")
        assert short_path(Path("report/report.md")) == "models/iris/report/report.md"
        monkeypatch.chdir(repository.parent)
        assert short_path(repository / "report.md") == f"{repository.name}/report.md"

    def test_an_unknown_name_lists_those_there_are(self, repository):
        with pytest.raises(ParamsError, match="--model orders, --model fraud, --model iris"):
            choose_home(repository, "froud")

    def test_where_the_root_has_no_model_one_must_be_named(self, repository):
        (repository / "params.yaml").unlink()
        with pytest.raises(ParamsError, match="--model fraud, --model iris"):
            choose_home(repository, None)


class TestSharedThings:
    def test_the_store_and_the_libraries_are_the_repository_s(self, repository):
        home = repository / "models" / "fraud"
        assert configured_store(home).url == str(repository / "store")
        assert embedded_store(home) == "store"
        (repository / "uv.lock").write_text('[[package]]\nname = "numpy"\nversion = "0.1"\n')
        with pytest.raises(Exception, match=r"the lock names 0\.1"):
            environment_files(home)

    def test_files_are_named_from_the_root(self, repository):
        home = Home.at(repository / "models" / "fraud")
        assert home.path("deploy/manifest.yaml") == "models/fraud/deploy/manifest.yaml"
        assert home.path("../../src/fraud") == "src/fraud"
        assert Home(repository).path("dvc.lock") == "dvc.lock"


class TestOneImageForAll:
    @pytest.fixture
    def image(self, repository, tmp_path):
        """What the image of the repository holds."""
        for seed, home in enumerate(find_homes(repository).values(), start=1):
            model_folder(tmp_path / "made" / str(seed), seed)
            release = stored_release(repository / "store", tmp_path / "made" / str(seed), 1)
            manifest = home.folder / "deploy" / "manifest.yaml"
            manifest.parent.mkdir()
            manifest.write_text(promote(empty_manifest(home.model or "orders"), release))
        digests = bundle(repository, Store(str(repository / "store")), tmp_path / "image")
        assert len(digests) == 3
        return tmp_path / "image"

    @pytest.mark.parametrize(("model", "place"), [("", "."), ("orders", "."), ("fraud", "models/fraud")])
    def test_a_variable_says_which_model_a_container_serves(self, image, model, place):
        environment = {
            "MERGELINE_MODEL": model,
            "MERGELINE_SERVE_ROOT": str(image),
            "MERGELINE_SERVE_MANIFEST": str(image / "deploy" / "manifest.yaml"),
            "MERGELINE_SERVE_STORE": str(image / "store"),
            "MERGELINE_SERVE_CACHE": str(image / "cache"),
        }
        settings = container_settings(environment)
        assert settings.root == str(image / place)
        assert settings.manifest == str(image / place / "deploy" / "manifest.yaml")
