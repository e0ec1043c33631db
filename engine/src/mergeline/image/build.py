"""Builds the server's container image through BentoML, with the libraries that uv.lock names.

Everything that goes in is put together in build/image first, where it can be looked at; the container's build then
downloads nothing but its base. The bill of materials is build/image/sbom.cdx.json, and /srv/mergeline/sbom.cdx.json.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from mergeline.errors import ToolError
from mergeline.files import write_bytes
from mergeline.home import Home, find_homes
from mergeline.manifest.schema import MANIFEST_FILE, manifest_path, read_manifest
from mergeline.manifest.signatures import signature_of
from mergeline.manifest.transitions import releases
from mergeline.params import PARAMS_FILE, read_params
from mergeline.process import run_program
from mergeline.store.objects import Store, configured_store

SERVICE = Path("deploy/service")
BUILD = Path("build/image")
GROUP = "serve"
"""The dependency group of pyproject.toml that the image holds."""
PYTHON = "3.11"
"""The version of Python in the base image: libraries are built for one version."""
PLATFORMS = {"x86_64": "x86_64-manylinux_2_36", "aarch64": "aarch64-manylinux_2_36", "arm64": "aarch64-manylinux_2_36"}
"""The machine's architecture, and the wheels that run on it under Debian 12."""


class BuiltImage(NamedTuple):
    """What was built: the digests of the models inside, and the bytes of the libraries that were left out."""

    models: tuple[str, ...]
    left_out_bytes: int


def build(image: str, *, engine: str, base: str | None) -> BuiltImage:
    """Put libraries, served models and bento together, and build the image.

    Args:
        image: the image's name, as registry/owner/name:tag.
        engine: docker or buildah.
        base: the base image, best by digest; None takes the bentofile's.

    Raises:
        ToolError: uv.lock is behind pyproject.toml, a library has no wheel, or a program that is called failed.
        StoreError, DigestError: a model that the manifest names is missing or damaged.
    """
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    left = install_libraries(find_uv())
    served = bundle(Path(), configured_store(Path()), BUILD / "served")
    write_bytes(BUILD / "served" / "sbom.cdx.json", (BUILD / "sbom.cdx.json").read_bytes())
    build_image(build_bento(), image, engine=engine, base=base)
    return BuiltImage(served, left)


def find_uv() -> str:
    """The uv that runs this, the repository's own, or the one on the PATH.

    Raises:
        ToolError: there is none.
    """
    own = Path(".tools/bin/uv")
    found = os.environ.get("UV") or (str(own.absolute()) if own.exists() else shutil.which("uv"))
    if not found:
        raise ToolError("it is not installed", where="uv", hint="make install")
    return found


def install_libraries(uv: str) -> int:
    """Install the group `serve` into build/image/libraries: wheels alone, by version and hash of uv.lock.

    Returns:
        The bytes that were left out.

    Raises:
        ToolError: uv.lock is behind pyproject.toml, or a library has no wheel.
    """
    export = [uv, "export", "--quiet", "--locked", "--only-group", GROUP]
    requirements, libraries = BUILD / "requirements.txt", BUILD / "libraries"
    text = _run(*export, "--no-annotate", "--no-header")
    folders = [line.removeprefix("-e ") for line in text.splitlines() if line.startswith("-e ")]
    write_bytes(requirements, "".join(f"{line}\n" for line in text.splitlines() if line[:3] != "-e ").encode())
    _run(*export, "--preview-features", "sbom-export", "--format", "cyclonedx1.5",
         "--output-file", str(BUILD / "sbom.cdx.json"))  # fmt: skip
    install = [uv, "pip", "install", "--quiet", "--target", str(libraries), "--no-deps", "--only-binary", ":all:",
               "--link-mode", "copy", "--python-version", PYTHON,
               "--python-platform", PLATFORMS[platform.machine()]]  # fmt: skip
    _run(*install, "--requirements", str(requirements), "--require-hashes")
    if folders:  # an engine that is edited beside its template has no hash
        _run(*install, *_wheels(uv, folders))
    patterns = resources.files("mergeline.image").joinpath("leave-out.txt").read_text(encoding="utf-8")
    return leave_out(libraries, patterns)


def _wheels(uv: str, folders: Sequence[str]) -> list[str]:
    """Build a wheel of each project folder, and return their paths."""
    for folder in folders:
        _run(uv, "build", "--quiet", "--wheel", "--out-dir", str(BUILD / "wheels"), folder)
    return [str(path) for path in sorted((BUILD / "wheels").glob("*.whl"))]


def leave_out(libraries: Path, patterns: str) -> int:
    """Delete the files that `patterns` (as in a .gitignore) names, and return their bytes."""
    from pathspec import GitIgnoreSpec

    chosen = GitIgnoreSpec.from_lines(patterns.splitlines())
    files = [libraries / name for name in chosen.match_tree_files(libraries)]
    saved = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    for folder in sorted((path for path in libraries.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return saved


def build_bento() -> Path:
    """Build the bento in build/image/bentoml, and return its folder.

    Raises:
        ToolError: BentoML cannot build it.
    """
    home = (BUILD / "bentoml").absolute()
    home.mkdir()
    os.environ["BENTOML_HOME"] = str(home)
    _run(sys.executable, "-m", "bentoml", "build", "--quiet", "--bentofile", str(SERVICE / "bentofile.yaml"), ".")
    (bento,) = home.glob("bentos/*/*/")
    return bento


def build_image(bento: Path, image: str, *, engine: str, base: str | None) -> None:
    """Build the image from the bento's Containerfile.

    Args:
        bento: the bento's folder.
        image: the image's name.
        engine: docker or buildah.
        base: the base image, best by digest; None takes the bentofile's.

    Raises:
        ToolError: the engine is missing, or cannot build it.
    """
    labels = {
        "org.opencontainers.image.title": ", ".join(find_homes(Path())),
        "org.opencontainers.image.description": "Serves the models that deploy/manifest.yaml names",
        "org.opencontainers.image.revision": _run("git", "rev-parse", "HEAD"),
        "org.opencontainers.image.version": bento.name,
    }
    if "GITHUB_REPOSITORY" in os.environ:  # so that the registry shows the image beside its code
        server = os.environ["GITHUB_SERVER_URL"]
        labels["org.opencontainers.image.source"] = f"{server}/{os.environ['GITHUB_REPOSITORY']}"
    if base is not None:
        labels["org.opencontainers.image.base.name"] = base
    command = [engine, "build", "--tag", image, "--file", str(bento / "env" / "docker" / "Dockerfile")]
    if engine == "buildah":
        command += ["--format", "docker"]  # OCI's own format knows no health check
    for name in ("libraries", "served"):
        command += ["--build-context", f"{name}={(BUILD / name).absolute()}"]
    for name, value in labels.items():
        command += ["--label", f"{name}={value}"]
    if base is not None:
        command += ["--build-arg", f"BASE={base}"]
    _run(*command, str(bento))


def _run(*command: str) -> str:
    return run_program(*command, hint="see what it says above").stdout.strip()


STORE_FOLDER = Path("store")


def bundle(root: Path, store: Store, into: Path) -> tuple[str, ...]:
    """Copy params, manifests, signatures, the public key, and the objects of every model that the manifests name.

    The folder is laid out as the repository is, with its homes, and its store in `store/`. What was there before is
    deleted.

    Args:
        root: the repository.
        store: where the objects are.
        into: the folder to make.

    Returns:
        The digests of the models: stable, previous and candidate of each home, as far as there are any.

    Raises:
        ParamsError, ManifestError: a document is missing or wrong.
        StoreError: an object is missing, or the store does not answer.
        DigestError: an object holds other bytes than its name promises.
    """
    shutil.rmtree(into, ignore_errors=True)
    digests: dict[str, None] = {}
    for home in find_homes(root).values() or [Home(root)]:
        folder = home.folder
        params = read_params(folder / PARAMS_FILE).release
        key = params.signing.public_key
        paths = [manifest_path(params.environments, each) for each in params.environments]
        there = [path for path in paths if path == MANIFEST_FILE or (folder / path).exists()]
        named = [release for path in there for release in releases(read_manifest(folder / path)).values()]
        names = [PARAMS_FILE, *there, *([Path(key)] if (folder / key).exists() else [])]
        for release in named:
            signature = Path(signature_of(release))
            names += [signature] if release.signature or (folder / signature).exists() else []
        for name in names:
            write_bytes(into / home.place / name, (folder / name).read_bytes())
        for release in named:
            digests[release.digest] = None
            for path, content in store.objects(release.source):
                write_bytes(into / STORE_FOLDER / path, content)
    return tuple(digests)
