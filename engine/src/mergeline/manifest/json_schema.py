"""Writes the JSON Schema of the manifest from its types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mergeline.files import write_text
from mergeline.manifest.model import Manifest

SCHEMA_FILE = Path("deploy/manifest.schema.json")


def manifest_schema() -> dict[str, Any]:
    """The manifest as JSON Schema 2020-12.

    It refuses what the types refuse, but for rules that compare values, which the language cannot say: weights that
    grow from step to step, analyses with names of their own, and a stable or candidate model that is under a hold.
    """
    schema = Manifest.model_json_schema()
    schema["$defs"]["Spec"]["allOf"] = [
        {
            "if": {"properties": {role: {"type": "object"}}, "required": [role]},
            "then": {"properties": {"stable": {"type": "object"}}, "required": ["stable"]},
        }
        for role in ("previous", "candidate")
    ] + [
        {
            "if": {"properties": {"candidate": {"type": "object"}}, "required": ["candidate"]},
            "then": {
                "properties": {
                    "rollout": {"properties": {"strategy": {"enum": ["canary", "shadow"]}}, "required": ["strategy"]}
                },
                "required": ["rollout"],
            },
        },
        {
            "if": {
                "properties": {
                    "candidate": {"type": "object"},
                    "rollout": {"properties": {"strategy": {"const": "canary"}}},
                },
                "required": ["candidate", "rollout"],
            },
            "then": {"properties": {"rollout": {"properties": {"steps": {"minItems": 1}}, "required": ["steps"]}}},
        },
    ]
    schema["$defs"]["Rollout"]["if"] = {"properties": {"strategy": {"const": "shadow"}}, "required": ["strategy"]}
    schema["$defs"]["Rollout"]["then"] = {
        "properties": {"steps": {"prefixItems": [{"properties": {"weight": {"minimum": 1}}}]}}
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema as the file holds it."""
    return json.dumps(manifest_schema(), indent=2, sort_keys=True) + "\n"


def write_schema(path: Path = SCHEMA_FILE) -> None:
    """Write the schema, whole or not at all."""
    write_text(path, schema_text())


if __name__ == "__main__":
    write_schema()
