from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import yaml
from metric_tools import OBSERVABILITY, alerts, eventually, find, free_port, needs, process, ran

from loopback import answering

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


class Receiver(ThreadingHTTPServer):
    """Stands in for Slack and PagerDuty: keeps what is posted, by path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.got: list[tuple[str, dict]] = []


class Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.got.append((self.path, json.loads(self.rfile.read(int(self.headers["content-length"])))))
        self.send_response(202 if self.path == "/pagerduty" else 200)
        self.end_headers()
        self.wfile.write(b'{"status": "success"}' if self.path == "/pagerduty" else b"ok")

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def receiver():
    made = Receiver()
    with answering(made):
        yield made


@needs("alertmanager")
def test_slack_and_pagerduty_are_told_what_the_examples_say(tmp_path, receiver):
    url, port = f"http://127.0.0.1:{receiver.server_port}", free_port()
    for name, secret in (("slack", f"{url}/slack"), ("pagerduty", "a-routing-key")):
        (tmp_path / name).write_text(secret)
    text = with_examples().replace("/run/secrets", str(tmp_path)).replace("group_wait: 30s", "group_wait: 1s")
    text = text.replace("group_wait: 10s", "group_wait: 1s") + f"\nglobal:\n  pagerduty_url: {url}/pagerduty\n"
    (tmp_path / "alertmanager.yml").write_text(text)
    command = [
        find("alertmanager") or "",
        f"--config.file={tmp_path}/alertmanager.yml",
        f"--storage.path={tmp_path}/silences",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    severities = {"MergelineNotReady": "critical", "MergelineDegraded": "warning", "MergelineDrift": "info"}
    told = [
        {"labels": {"alertname": name, "severity": severity, "job": "flights"},
         "annotations": {"summary": f"{name} happened", "description": "in words",
                         "runbook": f"docs/runbooks/{name}.md"}}
        for name, severity in severities.items()
    ]  # fmt: skip
    with process(command, tmp_path / "log"):
        api = f"http://127.0.0.1:{port}/api/v2/alerts"
        eventually(lambda: httpx.post(api, json=told).status_code == 200, (tmp_path / "log").read_text)
        eventually(lambda: len(receiver.got) >= 3, (tmp_path / "log").read_text)
    (page,) = (content for path, content in receiver.got if path == "/pagerduty")
    assert (page["routing_key"], page["event_action"]) == ("a-routing-key", "trigger")
    assert page["payload"]["summary"] == "MergelineNotReady happened"
    assert page["payload"]["custom_details"]["runbook"].endswith("/docs/runbooks/MergelineNotReady.md")
    slack = {content["channel"]: content["attachments"][0] for path, content in receiver.got if path == "/slack"}
    assert set(slack) == {"#models", "#models-drift"}
    assert slack["#models"]["title"] == "firing: MergelineDegraded happened"
    assert slack["#models"]["text"].strip() == "in words"
    assert slack["#models-drift"]["title_link"].endswith("/docs/runbooks/MergelineDrift.md")
