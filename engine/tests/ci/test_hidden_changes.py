"""A branch that changes what servers follow where no look at its models shows it."""

import shutil

import pytest
import yaml
from release_examples import release

from mergeline.ci.required_check import Event
from mergeline.ci.required_check_run import Run, look
from mergeline.errors import ForgeError
from mergeline.github.effects import merging_of
from mergeline.manifest.edit import empty_manifest, promote

MAIN = "refs/remotes/origin/main"
HOME = ("params.yaml", "dvc.yaml", "dvc.lock", "deploy/manifest.yaml")


@pytest.fixture
def branch(scene, known_to_git):
    """Let a function change the files of a branch, and look at what it would merge."""

    def changed(change):
        scene.commit("change", start="origin/main")
        change(scene.person.folder)
        scene.person.run("add", "--all")
        scene.person.run("commit", "--quiet", "--message", "change")
        scene.person.run("push", "--quiet", "origin", "HEAD:change")
        scene.git.fetch("origin", "change", "main")
        return look(scene.git, scene.root, Run(Event.PULL, scene.forge.git.find("change"), MAIN, "", fork=False))

    return changed


@pytest.fixture
def shop(scene):
    """A second model's home on main."""
    for name in HOME:
        text = (scene.person.folder / name).read_text()
        scene.commit("main", f"models/shop/{name}", text.replace("name: flights", "name: shop"))


def unjudged(scene, name="flights"):
    return promote(scene.base_text(), release(2)).replace("name: flights", f"name: {name}")


def write(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.usefixtures("shop")
def test_a_model_whose_params_go_keeps_no_manifest_that_changes(scene, branch):
    def hide(folder):
        (folder / "models/shop/params.yaml").unlink()
        write(folder, "models/shop/deploy/manifest.yaml", unjudged(scene, "shop"))

    with pytest.raises(ForgeError, match="no params.yaml names an environment"):
        branch(hide)
    assert set(branch(lambda folder: shutil.rmtree(folder / "models/shop"))) == {"flights"}


def test_the_model_of_the_root_that_moves_away_neither(scene, branch):
    def move(folder):
        for name in HOME[:3]:
            write(folder, f"models/shop/{name}", (folder / name).read_text().replace("name: flights", "name: shop"))
        write(folder, "models/shop/deploy/manifest.yaml", empty_manifest("shop"))
        write(folder, "deploy/manifest.yaml", unjudged(scene))
        (folder / "params.yaml").unlink()

    with pytest.raises(ForgeError, match="no params.yaml names an environment"):
        branch(move)


@pytest.mark.parametrize("name", ["staging", "none <!--\n@octocat"])
def test_an_environment_that_is_none_neither_and_its_name_is_told_nobody(scene, branch, name):
    params = yaml.safe_load((scene.person.folder / "params.yaml").read_text())
    two = {**params, "release": {**params["release"], "environments": ["staging", "production"]}}
    scene.commit("main", "params.yaml", yaml.safe_dump(two))
    scene.commit("main", "deploy/staging/manifest.yaml", scene.base_text())

    def drop(folder):
        write(folder, "params.yaml", yaml.safe_dump(params))
        write(folder, f"deploy/{name}/manifest.yaml", unjudged(scene))

    with pytest.raises(ForgeError, match="no params.yaml names an environment"):
        branch(drop)
    told = " ".join(merging_of(scene.git, MAIN, scene.forge.git.find("change")).values())
    assert not {"<", "@", "\n"} & set(told)


def test_a_file_of_another_kind_in_deploy_is_no_manifest(branch):
    assert branch(lambda folder: write(folder, "deploy/kubernetes/manifest.yaml", "kind: Service\n"))


@pytest.mark.parametrize("name", ["deploy/manifest.yaml", ".dvc/config", "params.yaml", "dvc.lock", "data.dvc"])
def test_a_link_whose_own_text_is_what_is_read_and_that_leads_elsewhere(branch, name):
    def link(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("elsewhere")

    with pytest.raises(ForgeError, match="a link or a module of git"):
        branch(link)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", ["deploy", "models", "models/shop", "models/shop/deploy"])
def test_a_folder_that_becomes_a_link(scene, branch, name):
    def link(folder):
        write(folder, "x/deploy/manifest.yaml", unjudged(scene))
        if name == "deploy":  # with its params nobody would look at the home
            (folder / "params.yaml").unlink()
        shutil.rmtree(folder / name)
        (folder / name).symlink_to("x")

    with pytest.raises(ForgeError, match="a link or a module of git"):
        branch(link)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.dvc", "outs: [{path: .venv/lib/python3.12/site-packages/x.pth, md5: 1}]"),
        ("src/shop.dvc", "outs: [{path: ../yaml, md5: 1}]"),
        ("x.dvc", "wdir: .venv\nouts: [{path: x, md5: 1}]"),
        ("x.dvc", "outs: [{path: x, md5: 1}, {path: y, md5: 1}]"),
        ("x.dvc", "outs: x"),
        ("yaml.py.dvc", "outs: [{path: yaml.py, md5: 1}]"),
        (".venv/bin/x.dvc", "outs: [{path: x, md5: 1}]"),
        (".github/actions/x.dvc", "outs: [{path: x, md5: 1}]"),
    ],
)
def test_data_that_a_job_would_run_once_they_are_pulled(branch, name, text):
    with pytest.raises(ForgeError, match="names another place than the one beside it"):
        branch(lambda folder: write(folder, name, text))


def test_data_beside_their_file_are_let_in(branch):
    assert branch(lambda folder: write(folder, "more/holidays.csv.dvc", "outs: [{path: holidays.csv, md5: 1}]"))
