"""Runs an image as production would, without an engine: its own root, read-only, as a user that nobody knows."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = "54321"
ENVIRONMENT = {**os.environ, "BUILDAH_ISOLATION": "chroot"}
# What an engine does for `--read-only --tmpfs /tmp --user 54321 --cap-drop ALL --security-opt no-new-privileges`.
ENTER = """
set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
while [ "$1" != -- ]; do mount --bind "$1" "$root$2"; [ "$3" = rw ] || mount -o remount,ro,bind "$root$2"; shift 3; done
shift
mount -o remount,ro,bind "$root"
exec chroot "$root" setpriv --reuid "$MERGELINE_USER" --regid "$MERGELINE_USER" --clear-groups --no-new-privs \\
    --bounding-set -all --inh-caps -all env -i "$@"
"""


@dataclass(frozen=True)
class Image:
    """A built image, opened at `root`, and its configuration."""

    root: Path
    config: dict[str, Any]

    def command(self, *words: str, mounts: Mapping[str, str] = {}, environment: Mapping[str, str] = {}) -> list[str]:
        """The command that runs `words` inside; `mounts` as place inside: `folder:ro` or `folder:rw`."""
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in environment.items())]
        bound = [part for place, folder in mounts.items() for part in _mount(folder, place)]
        shell = ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(self.root), *bound, "--"]
        return [*shell, *variables, "sh", "-c", 'cd "$0" && exec "$@"', self.config["WorkingDir"], *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `words` inside until they end."""
        return subprocess.run(
            self.command(*words),
            env={**ENVIRONMENT, "MERGELINE_USER": USER},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextlib.contextmanager
    def server(
        self, log: Path, *, port: int, mounts: Mapping[str, str] = {}, environment: Mapping[str, str] = {}
    ) -> Iterator[str]:
        """Start what the image starts, wait until it is ready, and give its address."""
        words = [*self.config["Entrypoint"], *(self.config.get("Cmd") or [])]
        command = self.command(*words, mounts=mounts, environment={"MERGELINE_LISTEN_PORT": str(port), **environment})
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, env={**ENVIRONMENT, "MERGELINE_USER": USER}, stdout=stream, stderr=subprocess.STDOUT
            )
            try:
                url = f"http://127.0.0.1:{port}"
                _wait(f"{url}/readyz", process, log)
                yield url
            finally:
                process.terminate()
                try:
                    process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextlib.contextmanager
def opened(name: str) -> Iterator[Image]:
    """Open a built image of buildah's; it is closed afterwards."""
    described = json.loads(buildah("inspect", "--type", "image", name))
    container = buildah("from", name)
    try:
        yield Image(Path(buildah("mount", container)), described["Docker"]["config"])
    finally:
        buildah("umount", container)
        buildah("rm", container)


def buildah(*words: str) -> str:
    """Call buildah."""
    done = subprocess.run(["buildah", *words], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def get(url: str, body: object | None = None) -> Any:
    """The answer to a GET, or to a POST of `body` as JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - as above
        return json.load(response)


def _mount(folder: str, place: str) -> tuple[str, str, str]:
    path, _, mode = folder.rpartition(":")
    return path, place, mode


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(0.1)
    raise AssertionError(f"not ready; it said:\n{log.read_text()}")
