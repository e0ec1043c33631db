from __future__ import annotations

import base64
import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mergeline.errors import ManifestError, SignatureError
from mergeline.serve import source as source_module
from mergeline.serve.source import MAX_BYTES, make_source
from odd_files import make_odd


class Site:
    """A web server that gives out what a test puts there, with ETags, and notes what it was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: list[int] = []
        self.asked: list[tuple[str, str | None]] = []  # paths with their authorisation
        self.status = 0
        self.cut_off = 0  # bytes that are promised and never sent
        self.drip_seconds = 0.0  # between one byte and the next
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = site.files.get(self.path.split("?")[0])
                tag = f'"{hashlib.sha256(content or b"").hexdigest()}"'
                status = site.status or (404 if content is None else 200)
                if status == 200 and self.headers["If-None-Match"] == tag:
                    status = 304
                site.statuses.append(status)
                site.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(status)
                self.send_header("ETag", tag)
                self.send_header("Content-Length", str(len(content or b"") if status == 200 else 0))
                self.end_headers()
                if status == 200 and site.drip_seconds:
                    self._drip(content or b"")
                elif status == 200:
                    self.wfile.write((content or b"")[: len(content or b"") - site.cut_off])

            def _drip(self, content: bytes) -> None:
                with suppress(ConnectionError):
                    for byte in content:
                        self.wfile.write(bytes([byte]))
                        time.sleep(site.drip_seconds)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture
def source(site, tmp_path):
    site.files["/deploy/manifest.yaml"] = b"one"
    return make_source(f"{site.url}/deploy/manifest.yaml?token=secret", root=tmp_path, folder=tmp_path / "signatures")


@pytest.mark.skipif(sys.platform != "linux", reason="other files stand elsewhere")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("FIFO", "it is not a file"), ("/dev/zero", "it is not a file"), ("folder", "it is not a file"),
        ("holes", "more than 1,000,000 bytes"), ("loop", "symbolic links"), ("socket", "No such device"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_ordinary_size_is_neither_waited_for_nor_read(tmp_path, kind, said):
    path = tmp_path / "manifest.yaml"
    make_odd(path, kind)
    begun = time.monotonic()
    with pytest.raises(ManifestError, match=said):
        make_source(str(path), root=tmp_path, folder=tmp_path).read()
    assert time.monotonic() - begun < 1


class TestAddress:
    def test_what_has_not_changed_is_not_sent_again(self, site, source):
        assert [source.read() for _ in range(3)] == [b"one"] * 3
        assert site.statuses == [200, 304, 304]

    def test_what_has_changed_is(self, site, source):
        source.read()
        site.files["/deploy/manifest.yaml"] = b"two"
        assert source.read() == b"two"

    @pytest.mark.parametrize("status", [404, 403, 500, 304])
    def test_a_refusal_is_an_error_that_names_the_address_and_no_secret(self, site, source, status):
        site.status = status
        with pytest.raises(ManifestError, match=str(status)) as caught:
            source.read()
        assert "deploy/manifest.yaml" in caught.value.where
        assert "secret" not in str(caught.value)
        site.status = 0
        assert source.read() == b"one"

    def test_a_server_that_is_down_is_an_error_and_heals(self, site, source):
        site.stop()
        with pytest.raises(ManifestError, match="refused"):
            source.read()

    def test_an_endless_manifest_is_not_read_to_its_end(self, site, source):
        site.files["/deploy/manifest.yaml"] = b"x" * (MAX_BYTES + 1)
        with pytest.raises(ManifestError, match="more than 1 MB"):
            source.read()

    def test_half_a_manifest_is_none(self, site, source):
        site.files["/deploy/manifest.yaml"] = b"spec: {}\nholds: []\n"
        site.cut_off = 10
        with pytest.raises(ManifestError, match="10 more expected"):
            source.read()
        site.cut_off = 0
        assert source.read() == b"spec: {}\nholds: []\n"

    def test_one_that_drips_is_given_up(self, site, source, monkeypatch):
        monkeypatch.setattr(source_module, "SECONDS", 0.3)
        site.files["/deploy/manifest.yaml"] = b"x" * 1000
        site.drip_seconds = 0.05
        start = time.monotonic()
        with pytest.raises(ManifestError, match=r"not whole after 0.3 seconds"):
            source.read()
        assert time.monotonic() - start < 10

    def test_a_signature_is_fetched_from_beside_the_manifest_once(self, site, source):
        site.files["/deploy/signatures/ab.json"] = b"{}"
        for _ in range(2):
            assert source.signature("deploy/signatures/ab.json").read_bytes() == b"{}"
        assert site.statuses == [200]

    def test_a_user_and_a_password_are_sent_and_not_shown(self, site, tmp_path):
        place = site.url.replace("http://", "http://me:se%40cret@")
        source = make_source(f"{place}/deploy/manifest.yaml?token=t1", root=tmp_path, folder=tmp_path / "signatures")
        site.files["/deploy/manifest.yaml"], site.files["/deploy/signatures/ab.json"] = b"one", b"{}"
        assert source.read() == b"one"
        assert source.signature("deploy/signatures/ab.json").read_bytes() == b"{}"
        secret = "Basic " + base64.b64encode(b"me:se@cret").decode()
        paths = ("/deploy/manifest.yaml?token=t1", "/deploy/signatures/ab.json?token=t1")
        assert site.asked == [(path, secret) for path in paths]
        site.stop()
        for ask in (source.read, lambda: source.signature("deploy/signatures/cd.json")):
            with pytest.raises((ManifestError, SignatureError)) as caught:
                ask()
            assert not [word for word in ("cret", "t1", "me:") if word in str(caught.value)]

    def test_a_signature_that_is_not_there_is_an_error(self, source):
        with pytest.raises(SignatureError, match="404"):
            source.signature("deploy/signatures/ab.json")


class TestFile:
    def test_a_mounted_folder_whose_link_is_turned_is_followed(self, tmp_path: Path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "manifest.yaml").write_text(name)
        (tmp_path / "..data").symlink_to("one")
        (tmp_path / "manifest.yaml").symlink_to("..data/manifest.yaml")
        source = make_source(str(tmp_path / "manifest.yaml"), root=tmp_path, folder=tmp_path)
        assert source.read() == b"one"
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        assert source.read() == b"two"

    def test_its_signatures_are_in_the_root(self, tmp_path):
        source = make_source(str(tmp_path / "manifest.yaml"), root=tmp_path, folder=tmp_path / "elsewhere")
        assert source.signature("deploy/signatures/ab.json") == tmp_path / "deploy/signatures/ab.json"
