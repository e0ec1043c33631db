"""Puts TLS in front of the local GitHub with Caddy: tools that meet an unknown host insist on https."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

from local_github.processes import START_SECONDS, ServerError, kept, wait_until_open

# What the API emulator has not got, or does not do as GitHub does, is answered beside git; so is what moves refs.
_OURS = (
    r"^/api/v3/repos/[^/]+/[^/]+/(commits/[0-9a-f]{40}/pulls|pulls(/\d+(/(merge|files|commits))?)?|compare/.+|git/refs.*"
    r"|rulesets.*|rules/.*|attestations/.*|actions/.*|branches/[^/]+/protection|pages|environments.*)$"
)
_CADDYFILE = """{{
	admin off
	skip_install_trust
	auto_https disable_redirects
	storage file_system {storage}
	servers {{
		protocols h1 h2
	}}
}}
https://localhost:{port} {{
	bind 127.0.0.1
	tls internal
	@ours path_regexp {ours}
	handle /api/v3/_local/* {{
		respond 404
	}}
	handle @ours {{
		reverse_proxy 127.0.0.1:{edge}
	}}
	handle_path /api/v3/* {{
		reverse_proxy {api}
	}}
	handle {{
		reverse_proxy 127.0.0.1:{edge} {{
			flush_interval -1
		}}
	}}
}}
"""


@contextlib.contextmanager
def tls_front(caddy: Path, folder: Path, port: int, edge: int, api: str) -> Iterator[Path]:
    """Serve https://localhost:`port` until the block ends; yields a file with the authorities to trust.

    Args:
        caddy: the program.
        folder: where it keeps its authority and its log.
        port: where it listens, on the loopback interface only.
        edge: the port of git and of what the emulator lacks.
        api: the address of the API emulator.

    Raises:
        ServerError: it did not start.
    """
    config, log, authority = folder / "Caddyfile", folder / "caddy.log", folder / "pki/authorities/local/root.crt"
    config.write_text(_CADDYFILE.format(storage=folder, port=port, edge=edge, api=api, ours=_OURS))
    command = (caddy, "run", "--adapter", "caddyfile", "--config", config)
    with kept(command, log) as process:
        wait_until_open(port, process, log)
        deadline = time.monotonic() + START_SECONDS
        while not (authority.exists() and _greets(port, authority)):
            if time.monotonic() > deadline:
                raise ServerError(f"no certificate was made; Caddy's last words:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        trusted = folder / "authorities.pem"
        trusted.write_bytes(_system_authorities() + authority.read_bytes())
        yield trusted


def _greets(port: int, authority: Path) -> bool:
    """Whether a handshake succeeds: Caddy listens before it has made its certificate."""
    try:
        context = ssl.create_default_context(cafile=str(authority))
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
    except OSError:
        return False


def _system_authorities() -> bytes:
    """What this machine trusts already: the jobs' tools install from the package index."""
    paths = ssl.get_default_verify_paths()
    return Path(paths.cafile).read_bytes() + b"\n" if paths.cafile and Path(paths.cafile).is_file() else b""
