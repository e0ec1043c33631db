"""The dashboard's structure, and every query of it against a Prometheus that watches the real server."""

from __future__ import annotations

import itertools
import json
import re
import time

import pytest
import yaml
from breakable_production import STEPS, Traffic, Watching, analysis, serving
from metric_tools import DASHBOARD, OBSERVABILITY, REPOSITORY, eventually, free_port, monitoring, needs

from mergeline.watch.results import Outcome

BOARD = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
OF_GRAFANA = {"__rate_interval"}
VALUES = {"__rate_interval": "5s", "instance": ".*", "model": "orders", "metric": "roc_auc"}


def queries() -> dict[str, str]:
    """Every expression, by where it stands."""
    found = {f"{panel['title']} {one['refId']}": one["expr"] for panel in PANELS for one in panel["targets"]}
    notes = BOARD["annotations"]["list"]
    return found | {f"annotation {note['name']}": note["expr"] for note in notes if "expr" in note}


def filled_in(expression: str) -> str:
    """An expression as Grafana would send it; a look back of a minute is one of two seconds here."""
    for name, value in VALUES.items():
        expression = expression.replace(f"${name}", value)
    return expression.replace("offset 1m", "offset 2s")


def test_panels_lie_side_by_side_and_never_on_one_another():
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_and_queries_can_be_told_apart():
    for names in (
        [panel["id"] for panel in BOARD["panels"]],
        [panel["title"] for panel in BOARD["panels"]],
        *([one["refId"] for one in panel["targets"]] for panel in PANELS),
    ):
        assert len(names) == len(set(names))


def test_every_query_goes_to_the_data_source_that_the_reader_chose():
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(one["datasource"] == chosen for panel in PANELS for one in (panel, *panel["targets"]))
    assert all(note["datasource"] == chosen for note in BOARD["annotations"]["list"] if "expr" in note)


def test_every_variable_is_defined_and_used():
    text = " ".join([*queries().values(), *(panel["title"] for panel in BOARD["panels"])])
    used = set(re.findall(r"\$([a-z_]\w*)", text)) - OF_GRAFANA
    assert used == set(VARIABLES) - {"datasource"}


def test_grafana_finds_the_dashboard_and_prometheus_where_the_compose_file_puts_them():
    services = yaml.safe_load((OBSERVABILITY.parent / "compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    inside = mounts["../build/grafana"]
    provisioning = OBSERVABILITY / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "mergeline.yml").read_text())["providers"]
    assert provider["options"]["path"] == inside
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{inside}/{DASHBOARD.name}"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services


def test_prometheus_asks_services_that_the_compose_file_has():
    services = yaml.safe_load((OBSERVABILITY.parent / "compose.yaml").read_text())["services"]
    config = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text())
    asked = [*config["scrape_configs"], *config["alerting"]["alertmanagers"]]
    targets = [target for one in asked for static in one["static_configs"] for target in static["targets"]]
    assert {target.split(":")[0] for target in targets} <= set(services)


@pytest.mark.slow
@needs("prometheus", "alertmanager", "node exporter")
def test_every_query_shows_something_of_the_real_server(tmp_path, breakables):
    port, begun = free_port(), time.time()
    breakables.deploy()
    with (
        monitoring(tmp_path / "monitor", port) as monitor,
        serving(tmp_path, port, tmp_path / "copies") as server,
    ):
        Watching(tmp_path / "watched", monitor.textfiles).finds(Outcome.DRIFT, week_before=True)
        server.wait(server.ready)
        with Traffic(server.url):
            eventually(lambda: monitor.query("mergeline_role_requests_total > 5"), lambda: server.status)
            breakables.deploy(strategy="shadow", steps=[])
            eventually(
                lambda: monitor.query('rate(mergeline_role_requests_total{role="shadow"}[3s]) > 0'), monitor.firing
            )
            breakables.deploy(steps=STEPS, analysis=[analysis()])
            eventually(lambda: monitor.query("mergeline_analysis_value"), lambda: server.status["rollout"])
            breakables.deploy(version=2)
            promoted = filled_in(queries()["annotation Promotions"])
            eventually(lambda: monitor.query(promoted), lambda: server.status)
            eventually(
                lambda: monitor.query("mergeline_journal_last_pass_timestamp_seconds > 0"), lambda: server.status
            )
        assert [one["value"][1] for one in monitor.query("count(mergeline_manifest_info == 1)")] == ["1"]
        empty = []
        for place, expression in queries().items():
            asked = {"query": filled_in(expression), "start": begun, "end": time.time() + 1, "step": 1}
            series = monitor.ask("query_range", **asked)["result"]
            if not any(value != "NaN" for one in series for _, value in one["values"]):
                empty.append(place)
        assert empty == []
        pages = " ".join(path.read_text() for path in (REPOSITORY / "docs" / "runbooks").glob("*.md"))
        known = set(monitor.ask("label/__name__/values"))
        assert set(re.findall(r"\b(?:mergeline|node)_[a-z_]+\b(?!\.)", " ".join([pages, *queries().values()]))) <= known
        for name in ("instance", "model", "metric"):
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]["query"]["query"]).groups()
            found = monitor.ask("series", **{"match[]": filled_in(selector)})
            assert VALUES[name] == ".*" or VALUES[name] in {one[label] for one in found}
            assert found
