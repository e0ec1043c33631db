from __future__ import annotations

import re

import pytest
import yaml
from metric_tools import OBSERVABILITY, alerts, needs, ran

ROUTES = OBSERVABILITY / "alertmanager.yml"


def with_examples() -> str:
    """The file with every example in it taken as it is meant: without the # at the start of its lines."""
    return re.sub(r"(?m)^#(?=    )", "", ROUTES.read_text())


@needs("amtool")
def test_alertmanager_takes_the_routes():
    result = ran("amtool", "check-config", ROUTES)
    assert result.returncode == 0, result.stdout + result.stderr


@needs("amtool")
def test_alertmanager_takes_the_examples_too(tmp_path):
    path = tmp_path / "alertmanager.yml"
    path.write_text(with_examples())
    result = ran("amtool", "check-config", path)
    assert result.returncode == 0, result.stdout + result.stderr
    receivers = {one["name"]: set(one) - {"name"} for one in yaml.safe_load(path.read_text())["receivers"]}
    assert receivers == {"on-call": {"pagerduty_configs"}, "team": {"slack_configs"}, "interested": {"slack_configs"}}


@needs("amtool")
@pytest.mark.parametrize(
    ("severity", "receiver"),
    [("critical", "on-call"), ("warning", "team"), ("info", "interested"), ("unheard", "team")],
)
def test_an_alert_goes_to_who_should_hear_of_it(severity, receiver):
    result = ran("amtool", "config", "routes", "test", f"--config.file={ROUTES}", f"severity={severity}")
    assert result.stdout.strip() == receiver


def test_what_holds_back_and_what_is_held_back_are_alerts_of_ours():
    (rule,) = yaml.safe_load(ROUTES.read_text())["inhibit_rules"]
    named = re.findall(r"Mergeline\w+", " ".join(rule["source_matchers"] + rule["target_matchers"]))
    assert set(named) <= set(alerts())
    severities = {alerts()[name]["labels"]["severity"] for name in named[:1]}
    assert severities == {"critical"}, "an alert that is held back must not be worse than the one that is told"


def test_no_secret_is_written_into_the_files():
    assert not re.search(r"(?m)^\s*(api_url|routing_key|service_key|credentials|password):", with_examples())
