"""Builds the server's container image through BentoML, with the libraries that uv.lock names.

    python engine/dev/build_image.py flights:latest

Everything that goes in is put together in build/image first, where it can be looked at; the container's build then
downloads nothing but its base. The bill of materials is build/image/sbom.cdx.json, and /srv/mergeline/sbom.cdx.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from mergeline.errors import MergelineError, ToolError
from mergeline.files import write_bytes
from mergeline.image.contents import bundle
from mergeline.params import PARAMS_FILE, read_params
from mergeline.store.reader import configured_store

SERVICE = Path("deploy/service")
BUILD = Path("build/image")
PYTHON = "3.11"
"""The version of Python in the base image: libraries are built for one version."""
PLATFORMS = {"x86_64": "x86_64-manylinux_2_36", "aarch64": "aarch64-manylinux_2_36", "arm64": "aarch64-manylinux_2_36"}
"""The machine's architecture, and the wheels that run on it under Debian 12."""


def main() -> None:
    """Put libraries, served models and bento together, and build the image."""
    options = _options()
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    left = install_libraries(options.uv)
    served = bundle(Path(), configured_store(Path()), BUILD / "served")
    write_bytes(BUILD / "served" / "sbom.cdx.json", (BUILD / "sbom.cdx.json").read_bytes())
    bento = build_bento()
    build_image(bento, options.image, engine=options.engine, base=options.base)
    print(f"built {options.image} with {len(served)} model(s); {left / 1e6:.0f} MB of the libraries were left out")
    print(f"what is in it: {BUILD / 'sbom.cdx.json'}; next: python engine/dev/smoke_image.py {options.image}")


def install_libraries(uv: str) -> int:
    """Install what the server needs into build/image/libraries: wheels alone, by version and hash of uv.lock.

    Returns:
        The bytes that were left out.

    Raises:
        ToolError: uv.lock is behind pyproject.toml, a library has no wheel, or one that is needed was left out.
    """
    export = [uv, "export", "--quiet", "--locked", "--no-dev", "--no-emit-project"]
    for name in left_out_packages(Path("pyproject.toml"), SERVICE / "packages.txt"):
        export += ["--prune", name]
    requirements, libraries = BUILD / "requirements.txt", BUILD / "libraries"
    _run(*export, "--no-annotate", "--output-file", str(requirements))
    _run(*export, "--preview-features", "sbom-export", "--format", "cyclonedx1.5",
         "--output-file", str(BUILD / "sbom.cdx.json"))  # fmt: skip
    _run(uv, "pip", "install", "--quiet", "--target", str(libraries), "--requirements", str(requirements),
         "--require-hashes", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy",
         "--python-version", PYTHON, "--python-platform", PLATFORMS[platform.machine()])  # fmt: skip
    return leave_out(libraries, SERVICE / "leave-out.txt")


def left_out_packages(project: Path, kept: Path) -> list[str]:
    """The direct dependencies of the project that the file `kept` does not name.

    Raises:
        ToolError: `kept` names what the project does not depend on.
    """
    from packaging.requirements import Requirement

    direct = {Requirement(text).name for text in tomllib.loads(project.read_text())["project"]["dependencies"]}
    lines = (line.partition("#")[0].strip() for line in kept.read_text().splitlines())
    wanted = {line for line in lines if line}
    if unknown := wanted - direct:
        raise ToolError(
            f"no dependency of the project: {', '.join(sorted(unknown))}",
            where=str(kept),
            hint=f"name what {project} names under `dependencies`",
        )
    return sorted(direct - wanted)


def leave_out(libraries: Path, patterns: Path) -> int:
    """Delete the files that `patterns` (as in a .gitignore) names, and return their bytes."""
    from pathspec import GitIgnoreSpec

    chosen = GitIgnoreSpec.from_lines(patterns.read_text().splitlines())
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
        "org.opencontainers.image.title": read_params(PARAMS_FILE).name,
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
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ToolError("it is not installed", where=command[0], hint="install it, or name another") from None
    if done.returncode:
        raise ToolError(
            (done.stderr or done.stdout).strip()[-3000:], where=" ".join(command[:3]), hint="see what it says above"
        )
    return done.stdout.strip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the server's container image.")
    parser.add_argument("image", help="the image's name, as registry/owner/name:tag")
    parser.add_argument("--engine", choices=("docker", "buildah"), default="docker", help="what builds it")
    parser.add_argument("--base", help="the base image, best by digest; the bentofile's if not given")
    parser.add_argument("--uv", default=os.environ.get("UV", "uv"), help="the uv program; `uv run` says which it is")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except MergelineError as error:
        sys.exit(f"build_image: {error}")
