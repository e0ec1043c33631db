"""A forged proposal for each check: bundles, locks, listings and verdicts as a hostile branch writes them.

Whatever is refused leaves the forge as it was; where a forgery would have to be taken, what it claims is not.
"""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from bundle_examples import lock_text, put_object
from release_examples import lineage, model_folder, push

from mergeline.ci.bundle import ApplyOutcome
from mergeline.evaluate.results import GateCheck, Status
from mergeline.model.artifact import folder_digest

OTHER = "sha256:" + "7" * 64
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.fixture(scope="module")
def target(made_scene, tmp_path_factory):
    """One scene for all: whatever is refused leaves it as it was."""
    scene = made_scene.copy(tmp_path_factory.mktemp("forged") / "scene")
    scene.bundle(scene.pull())
    shutil.copytree(scene.made, scene.folder / "sound")
    return scene


def refused(scene, spoil, reason):
    """Spoil the sound proposal, and see that it is refused with this reason and that nothing is written."""
    shutil.rmtree(scene.made, ignore_errors=True)
    shutil.copytree(scene.folder / "sound", scene.made)
    before = scene.refs(), scene.git.run("status", "--porcelain")
    spoil(scene)
    applied = scene.apply(scene.forge.get(1), fresh=False)
    assert applied.outcome is ApplyOutcome.REFUSED, reason
    assert reason in f"{applied.error.where}: {applied.error.what}"
    assert (scene.refs(), scene.git.run("status", "--porcelain")) == before


def add(name):
    return lambda scene: scene.replace(name, "x")


def a_socket(scene):
    place = Path.cwd()
    os.chdir(scene.made)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("model-card.md")
    finally:
        os.chdir(place)


FILES = {
    "a socket": (a_socket, "neither a file nor a folder"),
    **{
        f"the name {name!r}": (add(name), "a proposal has no such")
        for name in (
            "REPORT.md",
            "report.md.",
            "report.md ",
            "report.md\n",
            "r\u0435port.md",
            "report\u2024md",
            "evidence.md\u200b",
            "objects/files/md5/AB/" + "c" * 30,
            "objects/files/md5/ab/" + "C" * 30,
            "objects/files/md5/a\u0661/" + "c" * 30,
            "objects/files/md5/ab/" + "c" * 30 + ".DIR",
            "objects/files/md5/ab/" + "c" * 30 + ".dir.dir",
            "objects/files/md5/ab/" + "c" * 31,
            "objects/files/md5/ab/\uff10" + "c" * 29,
            "Objects/files/md5/ab/" + "c" * 30,
        )
    },
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_no_proposal_has(target, kind):
    refused(target, *FILES[kind])


def verdict(change):
    """The sound verdict, changed as a tree."""

    def spoil(scene):
        tree = json.loads((scene.made / "verdict.json").read_text())
        change(tree)
        scene.replace("verdict.json", json.dumps(tree))

    return spoil


def failing(tree):
    check = GateCheck(name="calibration", status=Status.FAIL, value="0.4", bound="0.05")
    tree["checks"] = [check.model_dump(mode="json"), check.model_copy(update={"status": Status.PASS}).model_dump()]


def no_champion(tree):
    tree.update(outcome="no champion", comparison=None)


def said(scene, old, new):
    text = (scene.made / "verdict.json").read_text()
    assert old in text
    scene.replace("verdict.json", text.replace(old, new, 1))


VERDICTS = {
    "that passed with a failing check": (verdict(failing), "1 failed checks, and accepted"),
    "that is worse and accepted": (
        verdict(lambda tree: (tree.update(outcome="worse"), tree["comparison"].update(outcome="worse"))),
        "it is worse, with 0 failed checks",
    ),
    "whose comparison came to something else": (
        verdict(lambda tree: tree["comparison"].update(outcome="worse")),
        "is served",
    ),
    "beside another champion": (
        verdict(lambda tree: tree["comparison"].update(champion_digest=OTHER)),
        "compared is 777777777777",
    ),
    "beside none though one is served": (verdict(no_champion), "it is no champion, and a model is served"),
    "without a comparison": (verdict(lambda tree: tree.update(comparison=None)), "it is better, and a model is served"),
    "that compares by what only looks like the gate's metric": (
        lambda scene: said(scene, '"roc_auc"', '"roc_\u0430uc"'),
        "other metrics: roc_auc, by which it compares nothing",
    ),
    "with an unknown status": (
        verdict(lambda tree: (failing(tree), tree["checks"][0].update(status="waived"))),
        "not the gate's verdict",
    ),
    "with an unknown key": (verdict(lambda tree: tree.update(override=True)), "not the gate's verdict"),
    "that says two things": (
        lambda scene: said(scene, '"accepted":true', '"accepted":false,"accepted":true'),
        "not the gate's verdict",
    ),
    "with a number that is none": (lambda scene: said(scene, "0.75", "NaN"), "not the gate's verdict"),
    "with a number without end": (lambda scene: said(scene, "0.75", "1e400"), "not the gate's verdict"),
    "with better metrics than it says": (
        lambda scene: scene.resummarise(metrics={"roc_auc": 0.99}),
        "other metrics: roc_auc",
    ),
    "with a larger gain than it says": (
        lambda scene: scene.resummarise(metrics={"roc_auc": 0.8, "gain": 0.3}),
        "other metrics: gain",
    ),
    "without the metric that was compared": (
        lambda scene: scene.resummarise(metrics={"luck": 1.0}),
        "other metrics: none of those",
    ),
}


@pytest.mark.parametrize("kind", VERDICTS)
def test_a_verdict(target, kind):
    refused(target, *VERDICTS[kind])


def test_an_honest_gain_is_that_of_the_gates_metric_whatever_is_told_first(made_scene, tmp_path):
    scene = made_scene.copy(tmp_path / "scene")
    pull = scene.pull()
    scene.bundle(pull)
    accuracy = {"name": "accuracy", "gain": {"value": 0.01}}
    verdict(lambda tree: tree["comparison"]["metrics"].append(tree["comparison"]["metrics"][0] | accuracy))(scene)
    scene.resummarise(metrics={"accuracy": 0.8, "gain": 0.05, "roc_auc": 0.8})
    assert scene.apply(pull).outcome is ApplyOutcome.APPLIED


def lock(change):
    return lambda scene: scene.rewrite_lock(lambda tree: change(tree["stages"]))


def out(path, md5=EMPTY, **more):
    return {"path": path, "hash": "md5", "md5": md5, "size": 0, **more}


def with_text(old, new):
    def spoil(scene):
        text = (scene.made / "dvc.lock").read_text()
        assert old in text
        scene.replace("dvc.lock", text.replace(old, new, 1))

    return spoil


def an_object_under_a_false_output(path):
    """Bytes that nobody asked for come into the store where the lock names them."""

    def spoil(scene):
        name = put_object(scene.made / "objects", b"nobody asked for this")
        md5 = "".join(name.split("/")[-2:])
        scene.rewrite_lock(lambda tree: tree["stages"]["train"]["outs"].append(out(path, md5)))

    return spoil


LOCKS = {
    **{
        f"with an output at {path}": (an_object_under_a_false_output(path), "does not make")
        for path in (
            "../../etc/cron.d/x",
            "/etc/passwd",
            "./model",
            "model/",
            "Model",
            ".github/workflows/x.yml",
            "mod\u0435l",
        )
    },
    "with a part of a stage that is no loop": (
        lock(lambda stages: stages.update({"train@x": {"cmd": "train", "outs": [out("x")]}})),
        "has no stage 'train@x'",
    ),
    "with an output twice": (
        lock(lambda stages: stages["train"]["outs"].append(dict(stages["train"]["outs"][0]))),
        "both make",
    ),
    "with an md5 in capitals": (lock(lambda stages: stages["train"]["outs"][0].update(md5="A" * 32)), "md5"),
    "with an md5 of sixty-four digits": (lock(lambda stages: stages["train"]["outs"][0].update(md5="a" * 64)), "md5"),
    "with an md5 that is a number": (with_text("md5: '00000000000000000000000000000000'", "md5: 0x10"), "md5"),
    "with a size that is a time": (with_text("size: 9", "size: 1:30"), "size"),
    "with a size that is a share": (with_text("size: 9", "size: 9.5"), "size"),
    "with a size without end": (with_text("size: 9", "size: .inf"), "size"),
    "with a size that DVC cannot count": (with_text("size: 9", "size: 99999999999999999999"), "size"),
    "with a size below nothing": (with_text("size: 9", "size: -9"), "size"),
    **{
        f"whose output is kept by {key}": (
            lock(lambda stages, key=key, value=value: stages["train"]["outs"][0].update({key: value})),
            "not by its md5",
        )
        for key, value in {
            "files": [{"relpath": "model.skops", "md5": EMPTY}],  # DVC fetches these, whatever the md5 says
            "cloud": {"store": {"etag": "abcd"}},
            "hash": "md5-dos2unix",
            "dataset": {"a": 1},
            "etag": "abcd",
        }.items()
    },
    "with a schema that is a number": (with_text("schema: '2.0'", "schema: 2.0"), "schema"),
    "with an alias": (with_text("cmd: train", "cmd: *x"), "aliases are not taken"),
    "with a merge key": (with_text("cmd: train", "cmd: train\n    <<: {}"), "merge keys are not taken"),
    "with a tag": (with_text("cmd: train", "cmd: !!str train"), "tags are not taken"),
    "with a key of keys": (with_text("stages:", "? {a: b}\n: 1\nstages:"), "are not taken"),
    "with a directive of another YAML": (with_text("schema:", "%YAML 1.3\n---\nschema:"), "not valid YAML"),
    "with a second document": (
        lambda scene: scene.replace("dvc.lock", (scene.made / "dvc.lock").read_text() + "---\nstages: {}\n"),
        "not valid YAML",
    ),
    "in UTF-16": (
        lambda scene: scene.replace("dvc.lock", (scene.made / "dvc.lock").read_text().encode("utf-16")),
        "not UTF-8",
    ),
}


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock(target, kind):
    refused(target, *LOCKS[kind])


def listed(*entries, raw=None):
    def spoil(scene):
        content = raw if raw is not None else json.dumps(list(entries)).encode()
        scene.replace("dvc.lock", lock_text(put_object(scene.made / "objects", content, ".dir")))

    return spoil


def entry(path, md5=EMPTY):
    return {"relpath": path, "md5": md5}


LISTINGS = {
    "a path with a backslash": (listed(entry("..\\..\\evil")), "which is no file of one folder"),
    "no path": (listed(entry("")), "which is no file of one folder"),
    "a folder's own name": (listed(entry(".")), "which is no file of one folder"),
    "an md5 of a folder": (listed(entry("a", EMPTY + ".dir")), "which is no file of one folder"),
    "an md5 in capitals": (listed(entry("a", EMPTY.upper())), "which is no file of one folder"),
    "an md5 with a line's end": (listed(entry("a", EMPTY + "\n")), "which is no file of one folder"),
    "two names for one file": (listed(entry("a"), entry("./a")), "which is no file of one folder"),
    "two slashes": (listed(entry("a//b")), "which is no file of one folder"),
    "a folder's own name before it": (listed(entry("./a")), "which is no file of one folder"),
    "a folder's own name behind it": (listed(entry("a/.")), "which is no file of one folder"),
    "a key that DVC does not read": (listed(entry("a") | {"size": 5}), "not a list of files"),
    "a path that is a number": (listed(entry(5)), "not a list of files"),
    "an md5 that is a number": (listed(entry("a", 10**31)), "not a list of files"),
    "a dictionary": (listed(raw=b'{"relpath": "a", "md5": "b"}'), "not a list of files"),
    "a key twice": (listed(raw=b'[{"relpath": "a", "relpath": "b", "md5": "c"}]'), "not a list of files"),
    "a byte order mark": (listed(raw=b"\xef\xbb\xbf[]"), "not a list of files"),
}


@pytest.mark.parametrize("kind", LISTINGS)
def test_a_listing_with(target, kind):
    refused(target, *LISTINGS[kind])


def model(change, says=None):
    """A model that the gate is said to have accepted; `change` gets its folder, `says` edits its lineage."""

    def spoil(scene):
        folder = model_folder(scene.folder / "models" / f"forged-{os.urandom(6).hex()}", 2)
        own = lineage(2).model_copy(update=says or {})
        (folder / "lineage.json").write_text(own.model_dump_json())
        change(folder)
        shutil.rmtree(scene.made / "objects")
        scene.replace("dvc.lock", lock_text(push(scene.made / "objects", folder)))
        scene.replace("verdict.json", scene.verdict_of(folder_digest(folder)).model_dump_json())

    return spoil


def signature(**output):
    def change(folder):
        path = folder / "signature.json"
        tree = json.loads(path.read_text())
        tree["output"] |= output
        path.write_text(json.dumps(tree))

    return change


TRAINED = {"task": "binary", "data": {"target": "late", "positive": True}, "model": {"threshold": 0.5}}
MODELS = {
    "a second signature in capitals": (
        model(lambda folder: shutil.copy(folder / "signature.json", folder / "Signature.json")),
        "no model has a file 'Signature.json'",
    ),
    "the other class as the positive one": (
        model(signature(positive=False), {"training": TRAINED}),
        "positive is False, it was trained for True",
    ),
    "a lower threshold than params set": (
        model(signature(threshold=0.001), {"training": TRAINED}),
        "threshold is 0.001, it was trained for 0.5",
    ),
    "another target than params set": (
        model(signature(target="delay"), {"training": {"task": "binary", "data": {"target": "delay"}}}),
        "trained for data.target delay, params say late",
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_with(target, kind):
    refused(target, *MODELS[kind])
