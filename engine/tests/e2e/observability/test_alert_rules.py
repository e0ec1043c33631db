from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from metric_tools import OBSERVABILITY, alerts, needs, ran

UNITS = sorted((Path(__file__).parents[1] / "observability" / "rules").glob("*.yml"))


@needs("promtool")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_stay_quiet_when_not(path):
    result = ran("promtool", "test", "rules", path)
    assert result.returncode == 0, result.stdout + result.stderr


@needs("promtool")
def test_prometheus_takes_its_configuration_and_every_rule():
    result = ran("promtool", "check", "config", OBSERVABILITY / "prometheus.yml")
    assert result.returncode == 0, result.stdout + result.stderr
    counted = sum(int(number) for number in re.findall(r"(\d+) rules found", result.stdout))
    assert counted == len(alerts()) > 0


def test_every_alert_is_tested_firing_and_quiet():
    cases = [
        case for path in UNITS for test in yaml.safe_load(path.read_text())["tests"] for case in test["alert_rule_test"]
    ]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(alerts())
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(alerts())


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_how_bad_it_is_and_what_it_means(name):
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert {"summary", "description", "runbook"} == set(rule["annotations"])
    assert len(rule["annotations"]["summary"]) <= 60
