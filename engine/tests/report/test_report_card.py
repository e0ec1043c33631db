"""The model card says what was measured and marks what only the team knows."""

from __future__ import annotations

import yaml
from report_parsing import headings, parse_markdown, tables
from report_samples import DIGEST, make_input

from mergeline.evaluate.results import GateOutcome
from mergeline.params import Task
from mergeline.report import markdown
from mergeline.report.card import compose_card, front_matter


def card(*args, **changes) -> str:
    return markdown.render(compose_card(make_input(*args, **changes)), level=1)


def test_the_card_has_the_sections_of_mitchell_and_others():
    assert headings(parse_markdown(card())) == [
        "Model card: flights version 8", "Model details", "Intended use", "Factors", "Metrics", "Evaluation data",
        "Training data", "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip


def test_what_no_number_can_say_is_marked_as_the_teams_to_write():
    text = card()
    assert text.count("**For the team to write:**") == 5
    intended = text[text.index("## Intended use") : text.index("## Factors")]
    assert intended.strip().splitlines()[2:] == [
        "> [!NOTE]",
        "> ✍️ **For the team to write:** who may use this model, for which decisions, and what it must not be used for.",
    ]


def test_the_card_carries_the_numbers_of_the_evaluation():
    shown = tables(parse_markdown(card()))
    assert ["Digest", DIGEST] in shown[0]
    assert ["model.arguments.max_iter", "60"] in shown[0]
    assert shown[1][1] == ["roc_auc ↑", "0.7385 [0.7345, 0.7425]"]


def test_a_refused_model_has_a_card_that_says_so():
    text = card(outcome=GateOutcome.WORSE)
    assert "The gate's verdict is “rejected”" in text
    assert "none, it is not proposed" in text
    assert "- **champion (failed)**:" in text


def test_a_regression_has_a_card_without_a_confusion_matrix():
    text = card(Task.REGRESSION)
    assert "it answers a number" in text
    assert "Confusion" not in text


def test_the_head_of_the_card_is_what_the_hugging_face_hub_reads():
    text = front_matter(make_input())
    assert text.startswith("---\n")
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["library_name"], head["pipeline_tag"]) == ("sklearn", "tabular-classification")
    [model] = head["model-index"]
    [result] = model["results"]
    assert {"type", "value"} == set(result["metrics"][0])
    assert head["digest"].startswith("sha256:")
    regression = yaml.safe_load(front_matter(make_input(Task.REGRESSION)).split("---\n")[1])
    assert regression["pipeline_tag"] == "tabular-regression"
