import json
from pathlib import Path

import pytest
from judged_models import HOLDOUT, fitted, params, rows
from threadpoolctl import threadpool_limits

from mergeline.errors import DataError
from mergeline.evaluate.evaluate import evaluate, write_evaluation
from mergeline.evaluate.results import read_evaluation
from mergeline.params import METRICS, Task

TASKS = ["binary", "multiclass", "regression"]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


def test_every_part_of_a_model_of_each_task_is_measured(tmp_path, task):
    found = evaluate(fitted(task, tmp_path), rows(task), HOLDOUT, params(task))
    assert [metric.name for metric in found.metrics] == list(METRICS[Task(task)])
    assert {entry.value for entry in found.slices} == {"north", "south", "west"}
    assert found.fairness[0].gaps
    assert found.importance[0].feature == "amount"
    assert found.stress
    assert found.curves
    assert found.model_bytes == 1000
    assert (found.confusion is None) == (task == "regression")


def test_two_runs_write_the_same_bytes_whatever_the_number_of_threads(tmp_path, task):
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            found = evaluate(fitted(task, tmp_path / "model"), rows(task), HOLDOUT, params(task))
        write_evaluation(found, tmp_path / str(threads))
    assert files(tmp_path / "1") == files(tmp_path / "2")


def test_what_is_written_is_read_again(tmp_path, task):
    found = evaluate(fitted(task, tmp_path / "model"), rows(task), HOLDOUT, params(task))
    write_evaluation(found, tmp_path / "evaluation")
    assert read_evaluation(tmp_path / "evaluation") == found


def test_metrics_are_one_flat_file_and_plots_are_lists_of_records(tmp_path):
    found = evaluate(fitted("binary", tmp_path / "model"), rows("binary"), HOLDOUT, params("binary"))
    write_evaluation(found, tmp_path / "evaluation")
    metrics = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    assert metrics == {metric.name: metric.estimate.value for metric in found.metrics}
    plots = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "evaluation/plots").iterdir()}
    assert set(plots) == {
        "roc",
        "precision_recall",
        "calibration",
        "scores-negative",
        "scores-positive",
        "importance",
    }
    assert plots["roc"][0] == {"x": 0.0, "y": 0.0}
    assert plots["importance"][0]["feature"] == "amount"


def test_plots_of_an_earlier_run_do_not_stay(tmp_path):
    for task in ("binary", "regression"):
        write_evaluation(evaluate(fitted(task, tmp_path / "m"), rows(task), HOLDOUT, params(task)), tmp_path / "e")
    assert not (tmp_path / "e/plots/roc.json").exists()


def test_no_float_has_more_than_six_digits(tmp_path):
    found = evaluate(fitted("binary", tmp_path / "model"), rows("binary"), HOLDOUT, params("binary"))
    numbers = []
    json.loads(json.dumps(found.model_dump(mode="json")), parse_float=lambda text: numbers.append(text) or float(text))
    assert numbers
    assert all(float(f"{float(text):.6g}") == float(text) for text in numbers)


def test_a_holdout_with_one_class_is_measured_without_what_needs_two(tmp_path):
    frame = rows("binary")
    found = evaluate(fitted("binary", tmp_path), frame[~frame["target"]], HOLDOUT, params("binary"))
    names = [metric.name for metric in found.metrics]
    assert "log_loss" in names
    assert "roc_auc" not in names
    assert found.importance == ()
    write_evaluation(found, tmp_path / "evaluation")


def test_a_missing_evaluation_says_how_to_make_one(tmp_path):
    with pytest.raises(DataError, match="dvc repro"):
        read_evaluation(tmp_path)


def test_a_damaged_evaluation_is_an_error(tmp_path):
    (tmp_path / "evaluation.json").write_text('{"name": 3}')
    with pytest.raises(DataError, match="not an evaluation"):
        read_evaluation(tmp_path)


def test_a_slice_column_that_does_not_exist_names_the_nearest(tmp_path):
    with pytest.raises(DataError, match="did you mean 'region'"):
        evaluate(
            fitted("binary", tmp_path),
            rows("binary"),
            HOLDOUT,
            params("binary", evaluation={"slices": ["regions"]}),
        )
