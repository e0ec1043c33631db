"""The pure parts: histogram, pace, faults, addresses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from traffic_server import SIGNATURE

from mergeline.errors import TrafficError
from mergeline.serve.openapi import describe_api
from mergeline.serve.settings import Settings
from mergeline.traffic.connection import parse_target
from mergeline.traffic.drive import Pace, plan_pace
from mergeline.traffic.faults import Damage, Fault, parse_fault
from mergeline.traffic.rows import read_fields
from mergeline.traffic.send import seconds_of
from mergeline.traffic.tally import Histogram

SETTINGS = Settings(root="r", manifest="m", store="s", cache="c")
FIELDS = {
    name: field
    for name, field in read_fields(describe_api(SIGNATURE, 1, SETTINGS), "http://x").items()
    if name not in ("order", "placed")
}
ROWS = [{"region": "north", "channel": "web", "amount": float(n), "items": n, "gift": True} for n in range(1, 101)]


class TestHistogram:
    @given(
        seconds=st.lists(st.floats(1e-6, 600), min_size=1, max_size=200),
        share=st.sampled_from([0.01, 0.5, 0.9, 0.99, 1]),
    )
    def test_quantiles_are_numpys_to_one_percent(self, seconds, share):
        histogram = Histogram()
        for each in seconds:
            histogram.add(each)
        exact = float(np.quantile(seconds, share, method="inverted_cdf"))
        assert exact * 0.99 - 2e-6 <= histogram.quantile(share) <= exact * 1.01 + 2e-6
        assert histogram.maximum == max(seconds)

    def test_an_empty_one_says_0(self):
        assert Histogram().quantile(0.99) == 0


class TestPace:
    def test_a_rate_is_an_even_schedule(self):
        pace = Pace(rate=200)
        assert [pace.due(number, None) for number in (0, 1, 200)] == [0, 0.005, 1]

    def test_a_speed_compresses_the_rows_own_times(self):
        pace = plan_pace(rate=None, speed=86400, duration=None, span=(1000.0, 1000.0 + 30 * 86400))
        assert pace.due(0, 1000.0 + 3 * 86400) == 3

    def test_a_duration_holds_all_rows(self):
        pace = plan_pace(rate=None, speed=None, duration=60, span=(0.0, 6000.0))
        assert pace.due(0, 6000.0) == 60

    def test_labels_come_later_in_the_rows_own_time(self):
        assert Pace(speed=3600).label_due(10.0, 7200) == 12
        assert Pace(rate=5).label_due(10.0, 2) == 12

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"rate": 1, "speed": 1}, "contradict"),
            ({"speed": 1, "duration": 1}, "contradict"),
            ({"speed": 1, "span": None}, "no times"),
            ({"duration": 1, "span": None}, "no times"),
        ],
    )
    def test_wishes_that_cannot_be_met_are_refused(self, options, reason):
        with pytest.raises(TrafficError, match=reason):
            plan_pace(**{"rate": None, "speed": None, "duration": None, "span": (0.0, 1.0)} | options)

    @pytest.mark.parametrize(
        ("text", "seconds"), [("500ms", 0.5), ("60s", 60), ("7", 7), ("1.5h", 5400), ("1d", 86400)]
    )
    def test_durations_have_units(self, text, seconds):
        assert seconds_of(text, "--duration") == seconds

    @pytest.mark.parametrize("text", ["", "soon", "-1s", "1 week", "1e3"])
    def test_what_is_no_duration_is_refused(self, text):
        with pytest.raises(TrafficError, match="--duration"):
            seconds_of(text, "--duration")


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "fault"),
        [
            ("drift=0.5sd", Fault("drift", 0.5)),
            ("drift:amount=-2sd", Fault("drift", -2.0, ("amount",))),
            ("nulls=0.2", Fault("nulls", 0.2)),
            ("unseen:channel,region=1", Fault("unseen", 1.0, ("channel", "region"))),
        ],
    )
    def test_a_fault_is_read(self, text, fault):
        assert parse_fault(text) == fault

    @pytest.mark.parametrize("text", ["", "drift", "nulls=2", "nulls=0.1sd", "fire=1", "unseen=-0.1"])
    def test_what_is_no_fault_is_refused(self, text):
        with pytest.raises(TrafficError, match="--fault"):
            parse_fault(text)

    def test_drift_moves_by_standard_deviations_and_stays_within_the_schema(self):
        damage = Damage([Fault("drift", 0.5)], FIELDS, ROWS, seed=0)
        moved = [damage(dict(row)) for row in ROWS]
        by = 0.5 * float(np.std([row["amount"] for row in ROWS], ddof=1))
        assert moved[0]["amount"] == pytest.approx(1 + by)
        assert moved[0]["items"] == round(1 + by)
        assert Damage([Fault("drift", 999)], FIELDS, ROWS, seed=0)(dict(ROWS[0]))["amount"] == 1000
        assert (moved[0]["region"], moved[0]["gift"]) == ("north", True)

    def test_nulls_are_given_to_that_share_of_what_may_be_missing(self):
        damage = Damage([Fault("nulls", 0.2)], FIELDS, ROWS, seed=0)
        rows = [damage(dict(ROWS[n % 100])) for n in range(2000)]
        assert 0.17 < sum(row["amount"] is None for row in rows) / 2000 < 0.23
        assert all(row["items"] is not None for row in rows)  # the server would refuse that

    def test_unseen_categories_are_given_where_the_schema_allows_any(self):
        damage = Damage([Fault("unseen", 0.5)], FIELDS, ROWS, seed=0)
        rows = [damage(dict(ROWS[0])) for _ in range(1000)]
        assert 0.45 < sum(row["channel"].startswith("unseen") for row in rows) / 1000 < 0.55
        assert {row["region"] for row in rows} == {"north"}

    def test_the_same_seed_hits_the_same_rows(self):
        def hit(seed):
            damage = Damage([Fault("nulls", 0.3)], FIELDS, ROWS, seed)
            return [damage(dict(row))["amount"] is None for row in ROWS]

        assert hit(1) == hit(1) != hit(2)

    @pytest.mark.parametrize(
        "fault", [Fault("nulls", 1, ("items",)), Fault("unseen", 1, ("region",)), Fault("drift", 1, ("no",))]
    )
    def test_a_fault_that_the_server_would_refuse_is_told_before(self, fault):
        with pytest.raises(TrafficError, match=fault.columns[0]):
            Damage([fault], FIELDS, ROWS, seed=0)


class TestAddress:
    def test_the_parts_of_an_address(self):
        target = parse_target("http://[::1]:3000/models/flights/", "secret")
        assert (target.host, target.port, target.tls) == ("::1", 3000, False)
        assert target.get("/status") == (
            b"GET /models/flights/status HTTP/1.1\r\nhost: [::1]:3000\r\nauthorization: Bearer secret\r\n\r\n"
        )

    @pytest.mark.parametrize("url", ["localhost:3000", "ftp://x", "http://", "http://x:port", ""])
    def test_what_is_no_address_is_refused(self, url):
        with pytest.raises(TrafficError, match="--url"):
            parse_target(url)
