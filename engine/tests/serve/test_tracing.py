"""Traces, received by a collector that speaks OTLP over HTTP on the loopback."""

from __future__ import annotations

import gzip
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pyarrow import parquet
from serve_process import serving
from serve_samples import RECORD, Production
from test_inference_protocol import Server, outputs, start, tensors  # noqa: F401 - `start` is a fixture

from loopback import answering
from mergeline.journal.parquet_export import seal_all
from mergeline.serve import tracing
from mergeline.serve.tracing import start_tracing

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = f"00-{CALLER}-00f067aa0ba902b7-01", f"00-{CALLER}-00f067aa0ba902b7-00"


class Collector(ThreadingHTTPServer):
    """Takes spans, and keeps them as the protocol has them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list:
        return [span for told in self.requests for each in told.resource_spans for scope in each.scope_spans
                for span in scope.spans]  # fmt: skip

    def wait(self, count: int) -> list:
        end = time.monotonic() + 30
        while len(self.spans) < count:
            assert time.monotonic() < end, f"{len(self.spans)} of {count} spans came"
            time.sleep(0.02)
        return self.spans


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def collector(monkeypatch):
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with answering(made):
        yield made


def end(server) -> None:
    server.engine.tracing.stop()
    server.engine.journal.close()


def attributes(span) -> dict:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def traces(folder) -> dict[str, str | None]:
    """The trace of each id in the journal."""
    seal_all(folder / "journal")
    rows = [
        row
        for file in (folder / "journal" / "predictions").rglob("*.parquet")
        for row in parquet.read_table(file, columns=["_id", "_trace_id"]).to_pylist()
    ]
    return {row["_id"]: row["_trace_id"] for row in rows}


def test_a_request_continues_its_callers_trace_and_the_journal_names_it(collector, start, tmp_path):  # noqa: F811
    server = start()
    answer = server.ask("POST", "/predict", json={**RECORD, "flight_id": "A"}, headers={"traceparent": SAMPLED})
    end(server)
    (span,) = collector.spans
    assert (span.name, span.kind) == ("POST /predict", span.SPAN_KIND_SERVER)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (CALLER, "00f067aa0ba902b7")
    assert answer.headers["traceparent"] == f"00-{CALLER}-{span.span_id.hex()}-01"
    told = attributes(span)
    assert (told["http.route"], told["http.response.status_code"], told["mergeline.records"]) == ("/predict", 200, 1)
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 30e9
    assert traces(tmp_path) == {"A": CALLER}


def test_a_request_without_a_trace_begins_one_which_its_answer_and_the_journal_name(collector, start, tmp_path):  # noqa: F811
    server = start()
    body = tensors({**RECORD, "flight_id": "A"}, {**RECORD, "flight_id": "B"})
    answer = server.infer(body)
    assert len(outputs(answer)["id"]) == 2
    end(server)
    (span,) = collector.spans
    assert span.name == "POST /v2/models/{name}/infer"
    assert not span.parent_span_id
    assert answer.headers["traceparent"].split("-")[1] == span.trace_id.hex()
    assert traces(tmp_path) == dict.fromkeys("AB", span.trace_id.hex())


def test_a_caller_that_does_not_sample_decides_for_the_server_too(collector, start, tmp_path):  # noqa: F811
    server = start()
    answer = server.ask("POST", "/predict", json={**RECORD, "flight_id": "A"}, headers={"traceparent": UNSAMPLED})
    end(server)
    assert "traceparent" not in answer.headers
    assert collector.spans == []
    assert traces(tmp_path) == {"A": None}


def test_a_sampler_of_no_request_still_follows_callers_that_sample(collector, start, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    server = start()
    assert "traceparent" not in server.ask("POST", "/predict", json=RECORD).headers
    server.ask("POST", "/predict", json=RECORD, headers={"traceparent": SAMPLED})
    end(server)
    assert [span.trace_id.hex() for span in collector.spans] == [CALLER]


def test_a_refusal_is_traced_and_only_the_servers_own_fault_is_an_error(collector, start):  # noqa: F811
    server = start()
    refused = server.ask("POST", "/predict", json={**RECORD, "hour": 99})
    assert refused.headers["traceparent"]
    server.ask("POST", "/feedback", json={"id": "A", "label": True})
    start(served=None).ask("POST", "/predict", json=RECORD)  # no model is loaded
    spans = {attributes(span)["http.response.status_code"]: span for span in collector.wait(3)}
    assert {status: span.status.code for status, span in spans.items()} == {422: 0, 200: 0, 503: 2}
    assert spans[200].name == "POST /feedback"


def test_the_resource_names_the_service_unless_the_variables_do(collector, start, monkeypatch):  # noqa: F811
    for name, variables in (("mergeline", {}), ("late-flights", {"OTEL_SERVICE_NAME": "late-flights"})):
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
        collector.requests.clear()
        server = start()
        server.ask("POST", "/predict", json=RECORD)
        end(server)
        (told,) = collector.requests
        assert attributes(told.resource_spans[0].resource)["service.name"] == name


@pytest.mark.parametrize(
    "variables",
    [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}],
)
def test_tracing_is_off_without_an_endpoint_or_where_the_variables_say_so(monkeypatch, caplog, variables):
    if variables:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert start_tracing() is None
    assert ("port 4318" in caplog.text) is ("OTEL_EXPORTER_OTLP_PROTOCOL" in variables)


def test_a_collector_that_does_not_answer_holds_neither_an_answer_nor_the_end_up(collector, start, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    server = start()
    assert server.ask("POST", "/predict", json=RECORD).status_code == 200
    began = time.monotonic()
    end(server)
    assert time.monotonic() - began < 10


def test_off_imports_nothing_of_opentelemetry(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    fresh = {"__name__": "fresh"}
    exec(Path(tracing.__file__).read_text(), fresh)  # noqa: S102 - a second copy, imported now
    assert fresh["start_tracing"]() is None
    assert not caplog.text


def test_without_the_exporter_the_server_says_so_and_starts(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert start_tracing() is None
    assert "no traces: import of opentelemetry.exporter" in caplog.text


@pytest.mark.slow
@pytest.mark.xdist_group("server")
def test_the_server_traces_what_it_answers_the_short_way_and_sends_it_before_it_ends(collector, tmp_path):
    production = Production(tmp_path)
    production.release(production.push(seed=1))
    with serving(production) as server:
        server.wait(server.ready)
        answer = server.predict({**RECORD, "flight_id": "A"})
        assert "traceparent" in answer.headers, server.log.read_text()
        trace = answer.headers["traceparent"].split("-")[1]
        server.process.terminate()
        server.process.wait(30)
    assert [span.trace_id.hex() for span in collector.spans] == [trace]
    assert traces(tmp_path) == {"A": trace}
