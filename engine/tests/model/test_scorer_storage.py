"""A scorer in the model folder: same bytes, proven or refused, and read with everything checked."""

import json
import subprocess
import sys
import zipfile
from functools import cache

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from scorer_samples import NUMBERS, TEXTS, WHOLE, by_row, compiled, houses, signature, target
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mergeline.dataset import Kind
from mergeline.errors import ModelError
from mergeline.evaluate.checks import how_served, serving_check
from mergeline.evaluate.results import Status
from mergeline.model.artifact import folder_digest, load_model
from mergeline.params import Task
from mergeline.report.words import meaning
from mergeline.scorer.compiling import Refusal, build_scorer
from mergeline.scorer.equivalence import largest_difference, prove
from mergeline.scorer.pipeline import to_features
from mergeline.scorer.signature import Column, Output, Signature
from mergeline.scorer.stored import GRAPH_FILE, SCORER_FILE, load_scorer, read_document
from toy_data import orders

BOOSTED = {"factory": "toy.model:boosted", "arguments": {"max_iter": 10}}

WITHOUT_SKLEARN = """
import sys
from pathlib import Path
from mergeline.model.artifact import load_model
model = load_model(Path("model"), defer=True)
rows = [("north", "web", 20.0, 2, True), ("south", None, float("nan"), 1, False)]
scores = model.scorer.score(model.scorer.encode(rows))
assert scores.shape == (2,)
print(sorted({name.split(".")[0] for name in sys.modules} & {"sklearn", "pandas", "onnx", "scipy", "skops"}))
"""


def pipeline(model):
    parts = [("texts", OneHotEncoder(handle_unknown="ignore"), TEXTS), ("numbers", StandardScaler(), NUMBERS + WHOLE)]
    return make_pipeline(ColumnTransformer(parts, sparse_threshold=0), model)


def boosting(**settings):
    return HistGradientBoostingClassifier(max_iter=5, random_state=0, **settings)


def with_function():
    return make_pipeline(FunctionTransformer(np.nan_to_num), Ridge())


@cache
def scorer_files(make, task):
    """The files of the scorer of such a model."""
    frame = houses(200, missing=0)
    fitted = pipeline(make()).fit(frame, target(frame, task))
    return build_scorer(fitted, signature(task), frame, frame.iloc[:20])


def built(folder, make, task=Task.BINARY):
    """Write the scorer of a model to a folder."""
    folder.mkdir(exist_ok=True)
    for name, content in scorer_files(make, task).items():
        (folder / name).write_bytes(content)


def change_json(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


class TestTraining:
    def test_the_folder_holds_a_proven_scorer_with_the_pipelines_scores(self, trained):
        model = load_model(trained(model=BOOSTED))
        proof = read_document(model.folder).proof
        assert (proof.rows, proof.tolerance) == (1200, 1e-9)  # all training rows, and the holdout
        assert proof.hard_cases > 300
        frame = orders("2024-05", 300)
        features = to_features(frame, model.signature.columns)
        assert largest_difference(model.scorer, model.pipeline, model.signature, features) < 1e-12
        assert np.allclose(by_row(model.scorer, features, model.signature), model.predict(frame), rtol=0, atol=1e-12)

    def test_same_pipeline_same_bytes(self, trained, train_anew):
        for factory in (BOOSTED, {"factory": "toy.model:linear"}):
            assert folder_digest(trained(model=factory)) == folder_digest(train_anew(model=factory))

    def test_a_scorer_is_part_of_the_digest(self, trained):
        folder = trained(model=BOOSTED)
        for name in ("scorer.json", "scorer.npz", "scorer.onnx"):
            before, content = folder_digest(folder), (folder / name).read_bytes()
            (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert folder_digest(folder) != before
            (folder / name).write_bytes(content)

    def test_what_cannot_be_compiled_is_served_as_before_and_says_why(self, trained):
        own = {"factory": "toy.model:with_own_function", "trusted_types": ["toy.model.doubled"]}
        model = load_model(trained(model=own), trusted_types=("toy.model.doubled",))
        assert model.scorer is None
        assert "not one of NumPy's" in read_document(model.folder).reason
        assert sorted(path.name for path in model.folder.glob("scorer*")) == ["scorer.json"]
        assert model.predict(orders("2024-05", 10)).shape == (10,)

    def test_scoring_imports_neither_scikit_learn_nor_pandas(self, trained):
        folder = trained(model=BOOSTED)
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_SKLEARN], cwd=folder.parent, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr

    def test_a_deferred_pipeline_predicts_when_it_must(self, trained):
        folder = trained(model=BOOSTED)
        model = load_model(folder, defer=True)
        assert "pipeline" not in vars(model)
        assert (model.predict(orders("2024-05", 10)) == load_model(folder).predict(orders("2024-05", 10))).all()

    def test_a_model_from_before_there_were_scorers_still_loads(self, trained):
        folder = trained(model=BOOSTED)
        for path in folder.glob("scorer*"):
            path.unlink()
        model = load_model(folder, defer=True)
        assert model.scorer is None
        assert model.predict(orders("2024-05", 10)).shape == (10,)


class TestRealProblems:
    def test_flights(self):
        from flights.features import CATEGORIES
        from flights.model import pipeline as flights
        from flights.schema import Flights

        names = [name for name in Flights.to_schema().columns if name not in {"flight_id", "scheduled_at", "late"}]
        columns = tuple(
            Column(name=name, kind=Kind.CATEGORY if name in CATEGORIES else Kind.NUMBER, nullable=True)
            for name in names
        )
        output = Output(task=Task.BINARY, target="late", classes=(False, True), positive=True)
        rng = np.random.default_rng(0)
        frame = pd.DataFrame({name: rng.normal(100, 40, 3000).round() for name in names})
        for name in CATEGORIES:
            frame[name] = rng.choice(["EWR", "JFK", "LGA", "BOS", "ATL", "UA", "B6"], 3000)
        frame = to_features(frame.mask(rng.random(frame.shape) < 0.02), columns)
        fitted = flights(seed=1, max_iter=20).fit(frame, (frame["hour"] > 100).to_numpy())
        described = Signature(name="flights", columns=columns, output=output)
        proof = prove(compiled(fitted, described), fitted, described, [frame])
        assert not isinstance(proof, Refusal), proof.reason
        assert proof.largest_difference == 1e-12


class TestProof:
    def test_a_scorer_that_is_wrong_on_one_hard_case_is_refused(self):
        frame = houses(200, missing=0)
        fitted = pipeline(boosting()).fit(frame, target(frame, Task.BINARY))
        made = compiled(fitted, signature(Task.BINARY))
        other = pipeline(boosting()).fit(frame, target(frame.assign(size=frame["size"].clip(upper=60)), Task.BINARY))
        refusal = prove(made, other, signature(Task.BINARY), [frame])
        assert isinstance(refusal, Refusal)
        assert "differs from scikit-learn" in refusal.reason
        assert "is right, it gives" in refusal.reason

    def test_a_threshold_one_step_off_is_found(self):
        frame = houses(200, missing=0)
        fitted = pipeline(boosting(max_depth=1)).fit(frame, (frame["size"] > 50).to_numpy())
        made = compiled(fitted, signature(Task.BINARY))
        model = onnx.load_from_string(made.graph)
        (splits,) = (one for one in model.graph.node[0].attribute if one.name == "nodes_splits")
        moved = np.nextafter(numpy_helper.to_array(splits.t), np.inf)
        splits.t.CopyFrom(numpy_helper.from_array(moved, "splits"))
        wrong = made.__class__(made.program, model.SerializeToString(), made.splits, made.vocabulary)
        assert not isinstance(prove(made, fitted, signature(Task.BINARY), [frame]), Refusal)
        assert isinstance(prove(wrong, fitted, signature(Task.BINARY), [frame]), Refusal)

    @pytest.mark.parametrize(
        ("model", "why"),
        [
            (KNeighborsClassifier, "KNeighborsClassifier cannot be compiled"),
            (with_function, "not one of NumPy's plain ones"),
        ],
    )
    def test_the_reason_names_the_part(self, tmp_path, model, why):
        task = Task.REGRESSION if model is with_function else Task.BINARY
        built(tmp_path, model, task)
        assert why in read_document(tmp_path).reason
        assert load_scorer(tmp_path, signature(task)) is None


class TestReport:
    def served(self, trained, **model):
        loaded = load_model(trained(model=model), trusted_types=("toy.model.doubled",))
        return loaded, orders("2024-05", 200)

    def test_a_compiled_model_passes_with_its_proof(self, trained):
        loaded, frame = self.served(trained, **BOOSTED)
        check = serving_check(how_served(loaded, frame))
        assert (check.status, check.value) == (Status.PASS, "compiled")
        assert "equal on 1,200 rows" in meaning(check)

    def test_a_model_that_scikit_learn_serves_warns_with_the_reason(self, trained):
        own = {"factory": "toy.model:with_own_function", "trusted_types": ["toy.model.doubled"]}
        check = serving_check(how_served(*self.served(trained, **own)))
        assert (check.status, check.value) == (Status.WARN, "scikit-learn")
        assert "FunctionTransformer: a function that is not one of NumPy's plain ones" in meaning(check)

    def test_a_scorer_that_differs_on_this_machine_fails(self, trained):
        loaded, frame = self.served(trained, **BOOSTED)
        path = loaded.folder / GRAPH_FILE
        model = onnx.load(path)
        (weights,) = (one for one in model.graph.node[0].attribute if one.name == "leaf_weights")
        weights.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights.t) + 1e-6, "weights"))
        path.write_bytes(model.SerializeToString())
        check = serving_check(how_served(load_model(loaded.folder), frame))
        assert check.status is Status.FAIL
        assert "differ on the holdout" in meaning(check)


class TestHostileFiles:
    """The digest keeps strangers out; these keep out what a signed but wrong folder could do."""

    def refused(self, folder, match, task=Task.BINARY):
        with pytest.raises(ModelError, match=match):
            load_scorer(folder, signature(task))

    def test_a_graph_that_keeps_a_tensor_in_another_file(self, tmp_path):
        built(tmp_path, boosting)
        path = tmp_path / GRAPH_FILE
        model = onnx.load(path)
        (weights,) = (one for one in model.graph.node[0].attribute if one.name == "leaf_weights")
        weights.t.ClearField("raw_data")
        weights.t.data_location = TensorProto.EXTERNAL
        entry = weights.t.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, "a field")

    def test_a_graph_with_another_operator_an_initializer_or_a_function(self, tmp_path):
        built(tmp_path, boosting)
        path = tmp_path / GRAPH_FILE
        good = path.read_bytes()
        model = onnx.load_from_string(good)
        model.graph.node.append(helper.make_node("Identity", ["y"], ["z"]))
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, "must hold once")
        model = onnx.load_from_string(good)
        model.graph.node[0].op_type = "Identity"
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, "no TreeEnsemble")
        model = onnx.load_from_string(good)
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(3), "more"))
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, "a field")
        model = onnx.load_from_string(good)
        model.functions.append(helper.make_function("own", "f", ["a"], ["b"], [], []))
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, "a field")

    @pytest.mark.parametrize(
        ("name", "value", "why"),
        [
            ("nodes_featureids", 10**6, "columns beyond"),
            ("nodes_truenodeids", 10**6, "beyond"),
            ("nodes_falsenodeids", 10**6, "beyond"),
            ("leaf_targetids", 7, "targets beyond"),
            ("tree_roots", 10**6, "nodes beyond"),
        ],
    )
    def test_a_node_that_points_outside(self, tmp_path, name, value, why):
        built(tmp_path, boosting)
        path = tmp_path / GRAPH_FILE
        model = onnx.load(path)
        (attribute,) = (one for one in model.graph.node[0].attribute if one.name == name)
        attribute.ints[0] = value
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, why)

    def test_trees_that_go_round_in_circles(self, tmp_path):
        built(tmp_path, boosting)
        path = tmp_path / GRAPH_FILE
        model = onnx.load(path)
        attributes = {one.name: one for one in model.graph.node[0].attribute}
        inner = list(attributes["nodes_trueleafs"].ints).index(0)
        attributes["nodes_truenodeids"].ints[inner] = inner
        path.write_bytes(model.SerializeToString())
        self.refused(tmp_path, "not below it")

    @pytest.mark.parametrize("name", ["scorer.json", "scorer.npz", "scorer.onnx"])
    @pytest.mark.parametrize("kept", [0, 40, 0.5])
    def test_a_truncated_or_missing_part(self, tmp_path, name, kept):
        built(tmp_path, boosting)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(kept * len(content)) if kept == 0.5 else kept])
        self.refused(tmp_path, "cannot be used")
        if name != SCORER_FILE:
            (tmp_path / name).unlink()
            self.refused(tmp_path, "cannot be used")

    def test_pickled_arrays_are_not_read(self, tmp_path):
        built(tmp_path, LogisticRegression)
        np.savez(tmp_path / "scorer.npz", base=np.array([{"a": 1}], dtype=object), allow_pickle=True)
        self.refused(tmp_path, "cannot be used")

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda d: d["program"].update(sources=3), "other columns"),
            (lambda d: d["program"].update(positive=0), "another class"),
            (lambda d: d["program"].update(numbers=[0, *d["program"]["numbers"][1:]]), "a column of text"),
            (lambda d: d["program"].update(numbers=[99, *d["program"]["numbers"][1:]]), "not there"),
            (lambda d: d["program"]["lookups"][0]["keys"].pop(), "other values than keys"),
            (lambda d: d["program"]["sums"].update(columns=[999]), "shape|not there"),
            (lambda d: d["program"]["steps"][0].update(kind="system"), "a step"),
            (lambda d: d["program"]["finish"].update(inverse="fromfile"), "an unknown function"),
            (lambda d: d.update(extra=1), "cannot be used"),
        ],
    )
    def test_a_program_that_does_not_fit(self, tmp_path, change, why):
        built(tmp_path, LogisticRegression)
        assert load_scorer(tmp_path, signature(Task.BINARY)) is not None
        change_json(tmp_path / SCORER_FILE, change)
        self.refused(tmp_path, why)

    def test_a_scorer_of_another_task(self, tmp_path):
        built(tmp_path, LogisticRegression)
        self.refused(tmp_path, "another number of scores", Task.MULTICLASS)
        self.refused(tmp_path, "another class", Task.REGRESSION)

    def test_arrays_are_stored_plainly_and_in_order(self, tmp_path):
        built(tmp_path, boosting)
        with zipfile.ZipFile(tmp_path / "scorer.npz") as archive:
            members = archive.infolist()
        assert [member.filename for member in members] == sorted(member.filename for member in members)
        assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
