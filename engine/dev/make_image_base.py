"""Makes the base image for tests/e2e/image from Debian packages, where no registry of images can be reached.

    python engine/dev/make_image_base.py

Installs buildah and debootstrap if they are missing, as root. The image is Debian 12 with its own Python 3.11.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mergeline.errors import MergelineError, ToolError

BASE = "localhost/mergeline-test-base:bookworm"
PACKAGES = "python3,ca-certificates"


def main() -> None:
    """Make the image, unless it is there."""
    if os.geteuid() != 0:
        raise ToolError("only root can make a Debian", where="debootstrap", hint="run it as root")
    missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
    if missing:
        _run("apt-get", "update", "--quiet")
        _run("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing)
    if _run("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        print(f"{BASE} is there already")
        return
    with tempfile.TemporaryDirectory(prefix="mergeline-base-") as scratch:
        folder = Path(scratch, "debian")
        print(f"making {BASE} with debootstrap: a minute or two")
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(folder))
        for cached in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(folder / cached, ignore_errors=True)
        container = _run("buildah", "from", "scratch")
        try:
            _run("buildah", "add", "--quiet", container, str(folder), "/")
            _run("buildah", "config", "--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", container)
            _run("buildah", "commit", "--quiet", container, BASE)
        finally:
            _run("buildah", "rm", container)
    print(f"made {BASE}")


def _run(*command: str) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        told = (done.stderr or done.stdout).strip()[-2000:]
        raise ToolError(told, where=" ".join(command[:2]), hint="see what it says above")
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except MergelineError as error:
        sys.exit(f"make_image_base: {error}")
