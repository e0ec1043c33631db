"""Prometheus, Alertmanager and node exporter run by the tests: real processes on the loopback, with short times."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from local_github.processes import free_port
from loopback import answering

REPOSITORY = Path(__file__).parents[4]
OBSERVABILITY = REPOSITORY / "deploy" / "observability"
RULES = OBSERVABILITY / "rules"
DASHBOARD = REPOSITORY / "engine" / "src" / "mergeline" / "observability" / "mergeline.json"

# Debian's name first, then that of the release archives.
TOOLS = {
    "promtool": ("promtool",),
    "amtool": ("amtool",),
    "prometheus": ("prometheus",),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
    "node exporter": ("prometheus-node-exporter", "node_exporter"),
}
INSTALL = "apt-get install prometheus prometheus-alertmanager prometheus-node-exporter"


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skip, with the reason, where one of the tools is not installed."""
    missing = [tool for tool in tools if find(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed: {INSTALL}")


def find(tool: str) -> str | None:
    return next(filter(None, map(shutil.which, TOOLS[tool])), None)


def ran(tool: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [find(tool) or tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert of the rule files by its name."""
    return {
        rule["alert"]: rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    }


def quick(text: str) -> str:
    """Rules that look at seconds instead of minutes. Nothing else about them is changed."""
    text = re.sub(r"for: \S+", "for: 1s", text)
    text = re.sub(r"\[(5m|15m|6h)\]", "[5s]", text)
    return text.replace("> 900", "> 5")


@contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def eventually(what: Callable[[], object], told: Callable[[], object], seconds: float = 90) -> None:
    """Wait until `what` is true; if it never is, fail with what `told` says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if what():
                return
        except httpx.TransportError:
            pass  # it is still starting
        time.sleep(0.1)
    pytest.fail(f"not within {seconds:g} s: {told()}")


@dataclass
class Mailbox:
    """Everything that Alertmanager has sent, by receiver."""

    port: int = 0
    mail: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def told(self, receiver: str) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.mail.get(receiver, ())}


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """An HTTP server in a thread that keeps what webhooks bring."""
    box = Mailbox()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["content-length"])))
            box.mail.setdefault(self.path.strip("/"), []).extend(content["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    box.port = server.server_address[1]
    with answering(server):
        yield box


@dataclass
class Monitor:
    """The three of them, watching a server that need not be there yet."""

    prometheus: httpx.Client
    alertmanager: httpx.Client
    box: Mailbox
    textfiles: Path
    fired: set[str] = field(default_factory=set)

    def ask(self, path: str, **query: object) -> Any:
        """What Prometheus' API says."""
        answer = self.prometheus.get(f"/api/v1/{path}", params=query).json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expression)["result"])

    def firing(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}

    def expect(self, *names: str) -> None:
        """Wait until all of these fire."""
        eventually(lambda: set(names) <= self.firing(), lambda: f"{names} should fire, {sorted(self.firing())} do")
        self.fired |= set(names)

    def expect_calm(self, *but: str) -> None:
        """Wait until nothing fires but these."""
        eventually(lambda: self.firing() <= set(but), lambda: f"{sorted(self.firing())} fire, and should not")

    def suppressed(self) -> set[str]:
        """The alerts that Alertmanager holds back since another one says more."""
        found = self.alertmanager.get("/api/v2/alerts").json()
        return {alert["labels"]["alertname"] for alert in found if alert["status"]["state"] == "suppressed"}


@contextmanager
def monitoring(root: Path, server_port: int) -> Iterator[Monitor]:
    """Our configuration files with other addresses and shorter times, in real processes."""
    ports = {name: free_port() for name in ("prometheus", "alertmanager", "node exporter")}
    textfiles = root / "textfiles"
    for folder in (textfiles, root / "rules"):
        folder.mkdir(parents=True)
    for path in RULES.glob("*.yml"):
        (root / "rules" / path.name).write_text(quick(path.read_text()))
    text = (OBSERVABILITY / "prometheus.yml").read_text()
    for place, port in (
        ("server:3000", server_port),
        ("alertmanager:9093", ports["alertmanager"]),
        ("node-exporter:9100", ports["node exporter"]),
    ):
        assert place in text
        text = text.replace(place, f"127.0.0.1:{port}")
    (root / "prometheus.yml").write_text(text.replace("_interval: 15s", "_interval: 1s"))
    with ExitStack() as stack:
        box = stack.enter_context(mailbox())
        _write_routes(root / "alertmanager.yml", box.port)
        commands = {
            "prometheus": [f"--config.file={root}/prometheus.yml", f"--storage.tsdb.path={root}/series"],
            "alertmanager": [
                f"--config.file={root}/alertmanager.yml",
                f"--storage.path={root}/silences",
                "--cluster.listen-address=",
            ],
            "node exporter": [
                "--collector.disable-defaults",
                "--collector.textfile",
                f"--collector.textfile.directory={textfiles}",
            ],
        }
        for name, options in commands.items():
            address = f"--web.listen-address=127.0.0.1:{ports[name]}"
            stack.enter_context(process([find(name) or name, *options, address], root / f"{name}.log"))
        clients = [
            stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{ports[name]}", timeout=10))
            for name in ("prometheus", "alertmanager")
        ]
        monitor = Monitor(*clients, box, textfiles)
        eventually(
            lambda: (
                all(client.get("/-/ready").is_success for client in clients) and monitor.query('up{job="node"} == 1')
            ),
            lambda: "\n".join(path.read_text() for path in root.glob("*.log")),
        )
        yield monitor


def _write_routes(path: Path, port: int) -> None:
    """Our routes and inhibitions, with receivers that we can read."""
    routes = yaml.safe_load((OBSERVABILITY / "alertmanager.yml").read_text())
    for route in (routes["route"], *routes["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in routes["receivers"]:
        receiver["webhook_configs"] = [{"url": f"http://127.0.0.1:{port}/{receiver['name']}"}]
    path.write_text(yaml.safe_dump(routes))
