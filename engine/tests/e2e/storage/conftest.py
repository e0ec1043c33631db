"""The S3 server that the tests of this folder share, and a proxy for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faulty_s3 import CREDENTIALS, Proxy, s3_server

from loopback import answering


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with s3_server(tmp_path_factory.mktemp("s3")) as port:
        yield port


@pytest.fixture
def s3(server_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy; what reads AWS' variables goes through it."""
    import fsspec

    proxy = Proxy(server_port)
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": proxy.url}.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    with answering(proxy):
        yield proxy
