from datetime import timedelta

import pytest

from mergeline.timing import backoff_seconds, duration


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("4w", timedelta(weeks=4)),
        ("0d", timedelta(0)),
    ],
)
def test_a_length_of_time_is_read(text, length):
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "m", "1", "1.5h", "-1d", "1y", "1 d"])
def test_another_text_is_none(text):
    with pytest.raises(ValueError, match="not a length of time"):
        duration(text)


def test_the_wait_doubles_up_to_its_bound():
    assert [backoff_seconds(n, first=2, longest=30) for n in (0, 1, 2, 3, 4, 999)] == [2, 4, 8, 16, 30, 30]
