"""Whole runs against a web server that behaves as the test wants."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from traffic_server import make_project, serving

from mergeline.errors import DataError, TrafficError
from mergeline.serve.run import open_listener
from mergeline.traffic.drive import TrafficOptions
from mergeline.traffic.faults import Fault
from mergeline.traffic.send import send

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def orders(project):
    return pd.read_parquet(project / "data" / "2024-01.parquet")


def test_every_row_is_sent_once_with_what_the_server_reads(project, orders):
    with serving() as seen:
        tally = send(project, TrafficOptions(seen.url))
    assert (tally.requests, tally.records, dict(tally.statuses)) == (100, 100, {"200": 100})
    sent = {record["order"]: record for record in seen.predictions}
    assert sorted(sent) == sorted(orders["order"])
    row = orders.iloc[7]
    assert sent[row["order"]] == {
        "order": row["order"],
        "placed": row["placed"].isoformat(),
        "region": row["region"],
        "channel": row["channel"],
        "amount": None if pd.isna(row["amount"]) else row["amount"],
        "items": row["items"],
        "gift": row["gift"],
    }
    assert any(record["amount"] is None for record in seen.predictions)


def test_csv_partitions_are_sent_too(tmp_path, orders):
    project = make_project(tmp_path, rows=10)
    path = tmp_path / "2024-02.csv"
    orders.head(20).to_csv(path, index=False)
    with serving() as seen:
        assert send(project, TrafficOptions(seen.url, places=(path,))).records == 20
    assert {record["order"] for record in seen.predictions} == set(orders.head(20)["order"])


def test_records_can_be_sent_in_batches(project):
    with serving() as seen:
        tally = send(project, TrafficOptions(seen.url, batch=30))
    assert (sorted(seen.sizes), tally.requests, tally.records) == ([10, 30, 30, 30], 4, 100)


def test_a_number_of_rows_is_enough(project):
    with serving() as seen:
        assert send(project, TrafficOptions(seen.url, limit=7)).records == 7
    assert len(seen.predictions) == 7


def test_a_rate_is_kept(project):
    with serving() as seen:
        start = time.monotonic()
        tally = send(project, TrafficOptions(seen.url, rate=100))
    early = [number / 100 - (arrival - start) for number, arrival in enumerate(sorted(seen.arrivals))]
    assert max(early) <= 0  # how late one comes depends on the machine
    assert tally.requests == 100


def test_a_rate_and_a_duration_start_again_from_the_first_row_with_new_ids(project):
    with serving() as seen:
        tally = send(project, TrafficOptions(seen.url, rate=200, duration=0.8))
    assert tally.requests == 160
    assert all("order" in record for record in seen.predictions[:90])
    assert all("order" not in record for record in seen.predictions[110:])  # the server makes an id


def test_a_duration_spreads_the_rows_as_their_own_times_are(project, orders):
    with serving() as seen:
        start = time.monotonic()
        send(project, TrafficOptions(seen.url, duration=1.0))
    own = (orders["placed"] - orders["placed"].iloc[0]).dt.total_seconds()
    planned = (own / own.iloc[-1]).to_numpy()
    early = [plan - (arrival - start) for plan, arrival in zip(planned, sorted(seen.arrivals), strict=True)]
    assert max(early) <= 0  # how late one comes depends on the machine


def test_a_stall_of_the_server_is_felt_by_every_request_that_was_due(project):
    """Coordinated omission: a generator that waits would report one slow request, and the others quick."""

    def stall(number):
        if number == 10:
            time.sleep(0.5)
        return 200

    with serving(stall) as seen:
        tally = send(project, TrafficOptions(seen.url, rate=200, connections=1))
    assert tally.latency.quantile(0.9) > 0.3  # about 90 requests were due while the server slept
    assert tally.latency.maximum >= 0.5


def test_what_a_server_never_caught_up_with_is_counted(project):
    with serving(lambda number: time.sleep(0.15) or 200) as seen:
        tally = send(project, TrafficOptions(seen.url, rate=100, duration=0.3, timeout=0.2, connections=1))
    assert tally.requests == 30
    assert tally.statuses["not sent"] + tally.statuses["200"] + tally.statuses["timeout"] == 30
    assert tally.statuses["not sent"] > 15
    assert len(seen.predictions) == 30 - tally.statuses["not sent"]


def test_failures_are_counted_by_status_and_by_name(project):
    with serving(lambda number: {3: 503, 4: 503, 5: 422, 6: 0}.get(number, 200)) as seen:
        tally = send(project, TrafficOptions(seen.url, connections=1))
    assert dict(tally.statuses) == {"200": 96, "503": 2, "422": 1, "closed": 1}
    assert tally.failed == 4


def test_a_server_that_does_not_answer_is_given_up(project):
    with serving(lambda number: time.sleep(1.0) or 200 if number == 2 else 200) as seen:
        tally = send(project, TrafficOptions(seen.url, limit=10, connections=1, timeout=0.2))
    assert dict(tally.statuses) == {"200": 9, "timeout": 1}


def test_labels_come_later_by_the_ids_of_the_answers(project, orders):
    with serving() as seen:
        start = time.monotonic()
        tally = send(project, TrafficOptions(seen.url, rate=400, label_delay=0.4))
    assert dict(tally.labels) == {"recorded": 100}
    assert {label["id"]: label["label"] for _, label in seen.labels} == dict(
        zip(orders["order"], orders["returned"], strict=True)
    )
    assert seen.labels[0][0] - start >= 0.4


def test_a_row_that_got_no_answer_gets_no_label(project):
    with serving(lambda number: 503 if number < 5 else 200) as seen:
        tally = send(project, TrafficOptions(seen.url, limit=20, connections=1, label_delay=0.01))
    assert len(seen.labels) == 15
    assert tally.labels_left == 0


def test_rows_are_damaged_on_request_and_from_a_time_on(project):
    with serving() as seen:
        send(project, TrafficOptions(seen.url, rate=100, faults=(Fault("unseen", 1.0),), fault_after=0.5))
    unseen = [record["channel"].startswith("unseen") for record in seen.predictions]
    assert sum(unseen) == pytest.approx(50, abs=3)
    assert not any(unseen[:40])


def test_no_server_is_an_error_that_says_what_to_do(project):
    with open_listener("127.0.0.1", 0) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TrafficError, match=r"no server answers: refused(.|\n)*mergeline serve"):
        send(project, TrafficOptions(url))


def test_rows_without_the_target_cannot_send_labels(project, tmp_path, orders):
    path = tmp_path / "2024-03.parquet"
    orders.drop(columns="returned").to_parquet(path)
    with serving() as seen:
        with pytest.raises(DataError, match="--label-delay"):
            send(project, TrafficOptions(seen.url, places=(path,), label_delay=1))
        assert send(project, TrafficOptions(seen.url, places=(path,))).failed == 0


def test_rows_of_another_data_set_are_told(project, tmp_path, orders):
    path = tmp_path / "2024-03.parquet"
    orders.drop(columns="items").to_parquet(path)
    with serving() as seen, pytest.raises(DataError, match="'items'"):
        send(project, TrafficOptions(seen.url, places=(path,)))


def test_the_api_key_is_sent(project, monkeypatch):
    monkeypatch.setenv("MERGELINE_SERVE_API_KEY", "secret")
    with serving() as seen:
        send(project, TrafficOptions(seen.url, limit=1))
    assert seen.keys == {"Bearer secret"}


@pytest.mark.slow
class TestCommand:
    def command(self, project, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(TESTS / "packages")}
        return subprocess.Popen(
            [sys.executable, "-m", "mergeline.cli", "traffic", *arguments],
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_the_summary_for_machines(self, project):
        with serving() as seen, self.command(project, "--url", seen.url, "--rows", "20", "--json") as process:
            out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        found = json.loads(out)
        assert (found["requests"], found["failed"], found["statuses"]) == (20, 0, {"200": 20})
        assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]

    def test_ctrl_c_ends_it_with_the_summary(self, project):
        with serving() as seen:
            arguments = ("--url", seen.url, "--rate", "50", "--duration", "1h", "--label-delay", "1h")
            with self.command(project, *arguments) as process:
                end = time.monotonic() + 60
                while len(seen.predictions) < 10 and time.monotonic() < end:
                    time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=10)
        assert process.returncode == 130, err
        assert "interrupted" in out
        assert "latency    p50" in out
        assert "not sent" in out
