"""Bodies that are large within what a body may have: each is refused, and neither memory nor the others notice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from serve_clients import growth_under_attack
from serve_process import Running, serving
from serve_samples import RECORD, Production

pytestmark = pytest.mark.slow

BYTES = 9_900_000
SECONDS = 4.0
INFER = "/v2/models/flights/infer"
TENSOR = b'{"inputs":[{"name":"temp","shape":[%d],"datatype":"FP64","data":[%b]}]}'
INPUT, OUTPUT = b'{"name":"%d","shape":[1],"datatype":"FP64","data":[0]}', b'{"name":"score"}'


def filled(value: bytes) -> bytes:
    """So many equal values that they fill a body."""
    return b",".join([value] * (BYTES // (len(value) + 1)))


def text(name: str, value: str) -> bytes:
    return json.dumps({**RECORD, name: value}).encode()


ATTACKS = {
    "a tensor of numbers": (INFER, TENSOR % (BYTES // 2, filled(b"0")), 413),
    "a tensor of arrays": (INFER, TENSOR % (1, filled(b"[]")), 413),
    "a tensor of objects": (INFER, TENSOR % (1, filled(b"{}")), 413),
    "tensors": (INFER, b'{"inputs":[%b]}' % b",".join(INPUT % number for number in range(160_000)), 413),
    "outputs": (INFER, b'{"inputs":[%b],"outputs":[%b]}' % (INPUT % 0, filled(OUTPUT)), 413),
    "empty records": ("/predict", b"[%b]" % filled(b"{}"), 413),
    "arrays for records": ("/predict", b"[%b]" % filled(b"[]"), 413),
    "numbers for records": ("/predict", b"[%b]" % filled(b"0"), 413),
    "texts for records": ("/predict", b"[%b]" % filled(rb'"\",\\"'), 413),
    "arrays in a record": ("/predict", b'{"temp":[%b]}' % filled(b"[]"), 413),
    "records that are good": ("/predict", b"[%b]" % filled(text("flight_id", "a")), 413),
    "labels": ("/feedback", b"[%b]" % filled(b'{"id":1,"label":true}'), 413),
    "an id": ("/predict", text("flight_id", "x" * BYTES), 422),
    "a class that is none": ("/predict", text("origin", "x" * BYTES), 422),
    "escapes": ("/predict", b'{"carrier":"%b"}' % (rb"\u0041" * (BYTES // 6)), 422),
    "digits": ("/predict", b'{"temp":%b}' % (b"1" * BYTES), 400),
    "digits of an exponent": ("/predict", b'{"temp":1e%b}' % (b"9" * BYTES), 422),
    "brackets": ("/predict", b"[" * BYTES, 413),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    production = Production(tmp_path_factory.mktemp("bodies"))
    production.release(production.push(compiled=True))
    with serving(production, max_body_mb=10, max_records=1000) as server:
        server.wait(server.ready)
        yield server


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_is_refused_and_nobody_notices(server, attack):
    path, body, status = ATTACKS[attack]
    told: list[int] = []

    def attacker(end: float) -> None:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            while time.monotonic() < end:
                answer = client.post(path, content=body, headers={"content-type": "application/json"})
                told.append(answer.status_code)

    grown = growth_under_attack(server, attacker, 2, SECONDS)
    assert set(told) == {status}
    assert grown < 150_000_000  # a body of a tensor took 975 MB; refused ids, 1.4 GB in five seconds


def test_a_large_text_full_of_commas_and_quotes_is_answered(server):
    record = {**RECORD, "carrier": ', "[{\\' * 900_000}
    assert server.predict([record]).status_code == 200
