"""Numbers are written the way people read them."""

from __future__ import annotations

import pytest

from mergeline.evaluate.results import Estimate
from mergeline.report.document import Range
from mergeline.report.words import count, figure, percent, probability, ranges, short, signed, size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.73124, "0.7312"), (-0.0161, "−0.0161"), (12.414, "12.41"), (1234.5, "1,234"), (0.0, "0.0000"),
        (0.00012, "1.20e-04"), (-0.00012, "−1.20e-04"), (float("nan"), "undefined"), (float("-inf"), "−∞"),
        (7.0, "7.000"), (1234567.0, "1,234,567"),
    ],
)  # fmt: skip
def test_a_figure_has_four_digits_and_a_true_minus(value, text):
    assert figure(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0072, "+0.0072"), (-0.0072, "−0.0072"), (0.0, "0.0000"), (-0.00001, "0.0000"), (1e-9, "0.0000")],
)
def test_a_difference_has_a_sign_unless_it_rounds_to_nothing(value, text):
    assert signed(value, 4) == text


def test_things_are_counted_in_singular_and_plural():
    assert [count(1, "row"), count(0, "row"), count(27161, "row")] == ["1 row", "0 rows", "27,161 rows"]


def test_small_probabilities_are_bounded():
    assert [probability(0.0004), probability(0.0412)] == ["< 0.001", "0.041"]


def test_sizes_shares_and_digests_are_short():
    assert [size(612_345), size(12_300_000), percent(0.95)] == ["612.3 kB", "12.3 MB", "95 %"]
    assert short("sha256:" + "ab" * 32).text == "sha256:abababababab…"
    assert short("9d4f" * 10).text == "9d4f9d4f9d4f…"
    assert short("short").text == "short"


def test_intervals_share_one_line_that_holds_the_marks():
    drawn = ranges([Estimate(value=1, low=0, high=2), Estimate(value=3)], (-2.0,))
    assert drawn == ((Range(0.4, 0.6, 0.8, (0.0,)),), ())
