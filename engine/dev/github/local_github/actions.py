"""Makes the stand-ins for the actions that workflows use: the same inputs and outputs, and the same effect here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_USES = re.compile(
    r"^\s*(?:-\s*)?uses:\s*['\"]?(?P<action>[\w.-]+/[\w.-]+)(?P<path>(?:/[\w./-]+)?)@(?P<ref>[\w./-]+)", re.M
)


class StandIn(NamedTuple):
    """What a stand-in takes and gives; what it does is in standins.py under its name."""

    inputs: Mapping[str, str]
    outputs: tuple[str, ...] = ()


STAND_INS: Mapping[str, StandIn] = {
    "actions/checkout": StandIn(
        {"repository": "", "ref": "", "path": "", "fetch-depth": "1", "filter": "",
         "persist-credentials": "true", "token": ""},
        ("ref", "commit"),
    ),
    "actions/upload-artifact": StandIn(
        {"name": "artifact", "path": "", "if-no-files-found": "warn", "include-hidden-files": "false",
         "overwrite": "false", "retention-days": "", "archive": "true"},
        ("artifact-id", "artifact-url"),
    ),
    "actions/download-artifact": StandIn(
        {"name": "", "pattern": "*", "merge-multiple": "false", "path": ".", "run-id": "", "github-token": "",
         "repository": ""},
        ("download-path",),
    ),
    "actions/cache": StandIn({"path": "", "key": "", "restore-keys": ""}, ("cache-hit",)),
    "actions/attest": StandIn(
        {"subject-name": "", "subject-digest": "", "subject-path": "", "subject-checksums": "", "predicate-type": "",
         "predicate-path": ""},
        ("bundle-path", "attestation-id"),
    ),
    "astral-sh/setup-uv": StandIn(
        {"version": "", "python-version": "", "enable-cache": "auto"}, ("uv-version", "cache-hit")
    ),
    "iterative/setup-cml": StandIn({"version": "latest", "vega": "true"}),
    "docker/login-action": StandIn({"registry": "", "username": "", "password": ""}),
}  # fmt: skip
_PROGRAM = Path(__file__).with_name("standins.py")


def used_actions(folder: Path) -> set[tuple[str, str]]:
    """Every action with its ref that the workflow files and the local actions of a checkout name."""
    found = set()
    for file in [*(folder / ".github").rglob("*.yml"), *(folder / ".github").rglob("*.yaml")]:
        for use in _USES.finditer(file.read_text(encoding="utf-8")):
            found.add((use["action"], use["ref"]))
    return found


def make_stand_ins(used: set[tuple[str, str]], place: Path) -> list[str]:
    """Write the stand-ins' folders, and say to act which pins they stand for.

    Raises:
        KeyError: there is no stand-in for one of them.
    """
    options = []
    for action, ref in sorted(used):
        if action not in STAND_INS:
            raise KeyError(f"the local GitHub has no stand-in for {action}: add one to actions.py and standins.py")
        folder = place / action.replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "action.yml").write_text(json.dumps(_describe(action), indent=1))
        options += ["--local-repository", f"{action}@{ref}={folder}"]
    return options


def _describe(action: str) -> dict[str, object]:
    made = STAND_INS[action]
    step = {
        "id": "run",
        "shell": "bash",
        "run": f'"$LOCAL_GITHUB_PYTHON" "{_PROGRAM}" {action}',
        "env": {"INPUTS": "${{ toJSON(inputs) }}", "ACTION_TOKEN": "${{ inputs.token }}"},
    }
    return {
        "name": action,
        "description": f"stands for {action}",
        "inputs": {name: {"description": name, "default": default} for name, default in made.inputs.items()},
        "outputs": {
            name: {"description": name, "value": f"${{{{ steps.run.outputs.{name} }}}}"} for name in made.outputs
        },
        "runs": {"using": "composite", "steps": [step]},
    }
