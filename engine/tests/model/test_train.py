"""Training: same inputs, same bytes; for every task; and what it refuses."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.compose
import sklearn.ensemble
import sklearn.pipeline
import sklearn.preprocessing
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import balanced_accuracy_score, f1_score

from mergeline.dataset.schema import load_schema
from mergeline.dataset.split import make_split
from mergeline.errors import CodeError, DataError, UntrustedTypeError
from mergeline.model.artifact import folder_digest, load_model
from mergeline.model.train import best_threshold, train
from mergeline.scorer.signature import Kind
from toy_data import orders, toy_params, write_months


class TestReproducible:
    def test_another_seed_or_argument_is_another_model(self, trained):
        digests = {
            folder_digest(trained()),
            folder_digest(trained(model={"seed": 4})),
            folder_digest(trained(model={"arguments": {"C": 0.5}})),
        }
        assert len(digests) == 3

    def test_what_training_does_not_read_does_not_change_the_model(self, trained, train_anew):
        assert folder_digest(trained()) == folder_digest(train_anew(gate={"margin": 0.03}))


class TestBackend:
    def test_where_a_model_is_fitted_is_no_part_of_what_it_is_made_from(self):
        here, there = toy_params(), toy_params(model={"backend": "dask://scheduler:8786"})
        assert here.training_json() == there.training_json()
        assert b"backend" not in here.training_json()

    @pytest.mark.parametrize(
        ("backend", "module", "package"),
        [("dask://scheduler:8786", "distributed", "distributed"), ("ray://head:10001", "ray", "ray[client]")],
    )
    def test_a_cluster_without_its_package_is_an_error_that_says_what_to_install(
        self, train_anew, tmp_path, backend, module, package
    ):
        if importlib.util.find_spec(module):
            pytest.skip(f"{module} is installed")
        with pytest.raises(CodeError) as refused:
            train_anew(model={"backend": backend})
        assert refused.value.what == f"{module} is not installed"
        assert backend in refused.value.where
        assert f"uv add '{package}'" in refused.value.hint
        assert not (tmp_path / "model").exists()

    @pytest.mark.parametrize("backend", ["dask://", "dask://host", "spark://host:1", "dask://user:secret@host:8786"])
    def test_an_address_that_is_none_is_refused_where_params_are_read(self, backend):
        with pytest.raises(ValidationError, match="backend"):
            toy_params(model={"backend": backend})


class TestSeeds:
    @pytest.mark.parametrize("factory", ["unseeded_forest", "unseeded_encoder", "unseeded_splitter"])
    def test_steps_without_a_seed_get_the_seed_of_the_params(self, train_anew, factory):
        model = {"factory": f"toy.searches:{factory}"}
        first = folder_digest(train_anew(model=model))
        np.random.rand(7)
        assert folder_digest(train_anew(model=model)) == first
        assert folder_digest(train_anew(model={**model, "seed": 4})) != first

    def test_a_pipeline_that_draws_nothing_is_left_as_the_team_made_it(self, trained):
        pipeline = load_model(trained(model={"factory": "toy.searches:unseeded_linear"})).pipeline
        assert pipeline[-1].random_state is None


class TestWhatPeopleWriteFirst:
    """Each is trained, stored, loaded and asked; what a search found is what is kept."""

    @pytest.mark.parametrize(
        "factory", ["chosen_by_type", "searched", "searched_by_chance", "tuned", "tempered", "stopped_early"]
    )
    def test_scikit_learns_own_parts_need_no_line_in_params(self, trained, factory):
        model = load_model(trained(model={"factory": f"toy.searches:{factory}"}), trusted_types=("toy.*",))
        assert np.isfinite(model.predict(orders("2024-05", 20))).all()

    def test_functions_and_classes_of_the_teams_package_are_trusted_by_being_in_it(self, trained):
        model = load_model(trained(model={"factory": "toy.searches:prepared"}), trusted_types=("toy.*",))
        assert np.isfinite(model.predict(orders("2024-05", 20))).all()


def test_the_pipeline_of_the_docs_takes_a_column_of_5000_categories():
    text = (Path(__file__).parents[3] / "docs" / "your-own-data.md").read_text()
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def pipeline(" in block]
    names = dict(vars(sklearn.compose)) | vars(sklearn.pipeline) | vars(sklearn.preprocessing) | vars(sklearn.ensemble)
    exec(block, names)  # noqa: S102 - the docs' own words
    rows = pd.DataFrame({"town": [f"town {number % 5000}" for number in range(6000)], "size": np.arange(6000.0)})
    fitted = names["pipeline"](0, max_iter=2).fit(rows, rows["size"] > 3000)
    assert fitted.predict_proba(rows).shape == (6000, 2)


class TestTasks:
    def train_on(self, tmp_path, params):
        split = make_split(tmp_path, params.data, params.split, load_schema(params.data))
        train(tmp_path, params, split, tmp_path / "model")
        return load_model(tmp_path / "model")

    def test_binary_scores_are_the_probability_of_the_positive_class(self, tmp_path):
        write_months(tmp_path / "data")
        model = self.train_on(tmp_path, toy_params())
        flipped = self.train_on(tmp_path, toy_params(data={"positive": False}))
        frame = orders("2024-05", 100)
        assert np.allclose(model.predict(frame), 1 - flipped.predict(frame))
        assert model.predict(frame)[frame["returned"]].mean() > model.predict(frame)[~frame["returned"]].mean()

    def test_multiclass_scores_have_a_column_for_each_class(self, tmp_path):
        write_months(tmp_path / "data")
        params = toy_params(task="multiclass", data={"target": "items"}, model={"factory": "toy.model:few_columns"})
        model = self.train_on(tmp_path, params)
        assert model.signature.output.classes == (1, 2, 3, 4, 5)
        scores = model.predict(orders("2024-05", 30))
        assert scores.shape == (30, 5)
        assert np.allclose(scores.sum(axis=1), 1)

    def test_regression_scores_are_values(self, tmp_path):
        for path in write_months(tmp_path / "data"):
            pd.read_parquet(path).dropna().to_parquet(path, index=False)
        params = toy_params(
            task="regression",
            data={"target": "amount"},
            model={"factory": "toy.model:regression"},
            gate={"metric": "rmse"},
        )
        model = self.train_on(tmp_path, params)
        assert model.predict(orders("2024-05", 30)).shape == (30,)
        assert model.signature.output.threshold is None


class TestSignature:
    def test_it_holds_what_the_schema_says_and_training_saw(self, trained):
        signature = load_model(trained()).signature
        columns = {column.name: column for column in signature.columns}
        assert signature.names == ["region", "channel", "amount", "items", "gift"]
        assert (columns["region"].categories, columns["region"].closed) == (("north", "south"), True)
        assert (columns["channel"].categories, columns["channel"].closed) == (("web", "shop", "phone"), False)
        assert (columns["amount"].minimum, columns["amount"].maximum, columns["amount"].nullable) == (0, 1000, True)
        assert (columns["items"].kind, columns["items"].minimum) == (Kind.INTEGER, 1)
        assert columns["gift"].kind is Kind.BOOLEAN
        assert signature.output.classes == (False, True)


class TestBounds:
    def test_an_exclusive_bound_is_the_next_number(self):
        import pandera.pandas as pa

        from mergeline.dataset.schema import _bounds

        column = pa.Column(float, [pa.Check.gt(0), pa.Check.lt(1)])
        (low,), (high,) = _bounds(column, ())
        assert 0 < low < 1e-300
        assert 1 - 1e-15 < high < 1
        assert _bounds(pa.Column(int), (1, 2, 3)) == ([1.0], [3.0])


class TestRefusals:
    def test_an_argument_that_the_factory_does_not_take(self, trained):
        with pytest.raises(CodeError, match=r"toy\.model:linear raised TypeError"):
            trained(model={"arguments": {"max_depth": 3}})

    def test_a_classifier_without_probabilities(self, trained):
        with pytest.raises(CodeError, match="has no predict_proba"):
            trained(model={"factory": "toy.model:without_probabilities"})

    def test_a_type_of_another_package_that_params_do_not_name(self, trained):
        with pytest.raises(UntrustedTypeError, match=r"no loader would trust: numpy\.fft\.fft"):
            trained(model={"factory": "toy.searches:with_foreign_function"})

    @pytest.mark.parametrize("factory", ["with_lambda", "with_inner_function"])
    def test_a_function_without_a_name_is_told_to_get_one(self, trained, factory):
        with pytest.raises(UntrustedTypeError) as told:
            trained(model={"factory": f"toy.searches:{factory}"})
        assert "named function (`def`) at the top level of a module of your package" in told.value.hint

    def test_the_step_that_raised_is_named_with_what_to_do(self, trained):
        with pytest.raises(CodeError, match=r"in step 'histgradientboostingclassifier'") as told:
            trained(model={"factory": "toy.searches:with_sparse_columns"})
        assert "sparse_output=False" in told.value.hint

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("amont", "did you mean 'amount'? The model gets region, channel, amount"),
            ("placed", "the model does not get 'placed', which is data.time: what it is to know of it"),
            ("nothing like it", "the model gets region, channel, amount"),
        ],
    )
    def test_a_column_that_the_model_does_not_get_is_told_with_those_that_it_gets(self, trained, name, hint):
        with pytest.raises(CodeError) as told:
            trained(model={"factory": "toy.searches:of_columns", "arguments": {"names": [name]}})
        assert hint in told.value.hint

    def test_a_pipeline_that_no_seed_makes_reproducible_is_refused_by_its_step(self, trained):
        with pytest.raises(CodeError, match=r"two fits on the same rows differ in step 'noise' \(Noise\)"):
            trained(model={"factory": "toy.searches:with_noise"})

    def test_a_positive_class_that_is_not_there(self, trained):
        with pytest.raises(DataError, match="data.positive is 'yes'"):
            trained(data={"positive": "yes"})

    def test_a_failed_training_leaves_the_old_model(self, trained, train_anew, tmp_path):
        before = folder_digest(trained())
        with pytest.raises(CodeError):
            train_anew(model={"arguments": {"max_depth": 3}})
        assert folder_digest(tmp_path / "model") == before
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class TestThreshold:
    @given(st.data())
    def test_no_other_threshold_does_better(self, data):
        rows = data.draw(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=2, max_size=40))
        hits = np.array([hit for hit, _ in rows])
        scores = np.array([score / 10 for _, score in rows])
        if hits.all() or not hits.any():
            assert best_threshold(hits, scores, "f1") == 0.5
            return
        for criterion, metric in (("f1", f1_score), ("balanced_accuracy", balanced_accuracy_score)):
            best = metric(hits, scores >= best_threshold(hits, scores, criterion))
            assert all(best >= metric(hits, scores >= other) - 1e-12 for other in np.unique(scores))
