"""Loads a server with the examples in its own OpenAPI document; the SLA is the exit code."""

import logging
import os

from locust import FastHttpUser, constant_throughput, events, task


@events.init_command_line_parser.add_listener
def _options(parser):
    parser.add_argument("--sla-p99-ms", type=float, default=50, help="fail where the 99th percentile is slower")
    parser.add_argument("--sla-failures", type=float, default=0.001, help="fail where a larger share fails")


class Caller(FastHttpUser):
    """Ten requests a second, most of them for one record."""

    wait_time = constant_throughput(10)

    def on_start(self):
        """Learn what the served model reads."""
        key = os.environ.get("MERGELINE_SERVE_API_KEY")
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        document = self.client.get("/openapi.json", headers=self.headers).json()
        self.record = document["components"]["schemas"]["Record"]["examples"][0]

    @task(9)
    def one(self):
        """One record."""
        self.client.post("/predict", json=self.record, headers=self.headers, name="/predict one")

    @task(1)
    def many(self):
        """A small batch."""
        self.client.post("/predict", json=[self.record] * 20, headers=self.headers, name="/predict twenty")


@events.quitting.add_listener
def _judge(environment, **_):
    total, sla = environment.stats.total, environment.parsed_options
    p99, failures = total.get_response_time_percentile(0.99) or float("inf"), total.fail_ratio
    if p99 > sla.sla_p99_ms or failures > sla.sla_failures:
        logging.error(
            "the SLA is missed: p99 %.0f ms (%g), failures %.4f (%g)", p99, sla.sla_p99_ms, failures, sla.sla_failures
        )
        environment.process_exit_code = 1
