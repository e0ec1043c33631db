"""Small releases, model folders, stores and evaluations that the tests of this area are made from."""

import hashlib
import json
from pathlib import Path

from mergeline.evaluate.results import Curve, Estimate, Evaluation, Holdout, Metric, Series
from mergeline.files import pack_zip
from mergeline.manifest.schema import Evidence, Lineage, Release
from mergeline.model.artifact import folder_digest
from mergeline.model.lineage import ModelLineage
from mergeline.params import Params, Task
from mergeline.scorer.signature import Column, Kind, Output, Signature
from mergeline.store.objects import Store


def hexes(text, length):
    return hashlib.sha512(text.encode()).hexdigest()[:length]


def sha256(text):
    return f"sha256:{hexes(text, 64)}"


def release(version, *, pull=None, signed=False, metrics=None, **changes):
    """A release whose every digest is made from its version."""
    digest = sha256(f"model {version}")
    values = {
        "version": version,
        "digest": digest,
        "source": f"files/md5/{hexes(f'source {version}', 2)}/{hexes(f'object {version}', 30)}.dir",
        "lineage": Lineage(
            code=hexes(f"code {version}", 40),
            data=f"md5:{hexes(f'data {version}', 32)}.dir",
            params=sha256(f"params {version}"),
            environment=sha256("environment"),
        ),
        "evidence": Evidence(
            pull=pull,
            metrics=metrics or {"roc_auc": 0.7 + version / 1000, "log_loss": 0.542},
            gate=sha256(f"gate {version}"),
        ),
        "signature": f"deploy/signatures/{digest.removeprefix('sha256:')}.json" if signed else None,
    }
    return Release(**(values | changes))


def lineage(seed=7):
    return ModelLineage(
        code=hexes("code", 40),
        data=f"md5:{hexes('data', 32)}.dir",
        params=sha256("params"),
        environment=sha256("environment"),
        training={"task": "binary", "model": {"seed": seed, "arguments": {"depth": 3, "scale": None}}},
        partitions=("2013-01", "2013-02"),
        rows=120,
        seed=seed,
        processor="x86_64",
        libraries={"scikit-learn": "1.9.1"},
    )


def model_folder(folder, seed=7):
    """A folder that has the files of a model, all in order, though nothing that predicts."""
    folder.mkdir(parents=True)
    output = Output(task=Task.BINARY, target="late", classes=(False, True), positive=True, threshold=0.5)
    column = Column(name="hour", kind=Kind.INTEGER, nullable=False, maximum=seed)
    (folder / "signature.json").write_text(
        Signature(name="flights", columns=(column,), output=output).model_dump_json()
    )
    (folder / "lineage.json").write_text(lineage(seed).model_dump_json())
    pipeline = {"__class__": "LogisticRegression", "__module__": "sklearn.linear_model", "__loader__": "ObjectNode"}
    pipeline["content"] = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": f"{seed}"}
    pipeline["protocol"] = 2
    (folder / "model.skops").write_bytes(pack_zip({"schema.json": json.dumps(pipeline).encode()}))
    return folder


def push(store_folder, folder) -> str:
    """Put a folder into a store as `dvc push` does; the path of its listing there."""
    listing = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        md5 = _put(store_folder, path.read_bytes(), "")
        listing.append({"md5": md5, "relpath": path.relative_to(folder).as_posix()})
    md5 = _put(store_folder, json.dumps(listing).encode(), ".dir")
    return f"files/md5/{md5[:2]}/{md5[2:]}.dir"


def _put(store_folder, content, suffix):
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    target = store_folder / "files" / "md5" / md5[:2] / f"{md5[2:]}{suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return md5


def stored_release(store_folder, folder, version, **changes):
    """The release of a folder that is put into the store first."""
    own = lineage()
    made_from = Lineage(code=own.code, data=own.data, params=own.params, environment=own.environment)
    values = {"digest": folder_digest(folder), "source": push(store_folder, folder), "lineage": made_from} | changes
    return release(version, **values)


def store(folder):
    return Store(str(folder))


def params(**changes):
    values = {
        "name": "flights",
        "task": "binary",
        "data": {"schema": "flights.schema:Flights", "target": "late"},
        "model": {"factory": "flights.model:pipeline"},
        "validation": {},
        "split": {},
        "evaluation": {},
        "gate": {"metric": "roc_auc", "margin": 0.005, "slice_margin": 0.02},
    }
    return Params.model_validate(values | changes)


def evaluation(model="model 1", holdout="holdout"):
    return Evaluation(
        name="flights",
        task=Task.BINARY,
        digest=sha256(model),
        holdout=Holdout(digest=sha256(holdout), partitions=("2013-03",), rows=40, first=None, last=None),
        metrics=(
            Metric(name="roc_auc", estimate=Estimate(value=0.75, low=0.7, high=0.8), higher_is_better=True),
            Metric(name="log_loss", estimate=Estimate(value=0.5), higher_is_better=False),
        ),
        slices=(),
        slice_edges={},
        fairness=(),
        importance=(),
        stress=(),
        curves=(
            Curve(
                name="roc",
                title="ROC",
                x_label="false positive rate",
                y_label="true positive rate",
                series=(Series(name="model", x=(0.0, 1.0), y=(0.0, 1.0)),),
            ),
        ),
        confusion=None,
        model_bytes=1234,
    )


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
