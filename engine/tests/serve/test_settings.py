from __future__ import annotations

import pytest

from mergeline.errors import MergelineError
from mergeline.serve.settings import Settings, read_settings

SETTINGS = Settings(root=".", manifest="deploy/manifest.yaml", store="store", cache="build/models")


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        SETTINGS.model_copy(
            update={
                "store": "s3://bucket/a b=c",
                "poll_seconds": 0.25,
                "max_records": 7,
                "trusted_types": ("flights.features.Hours", "flights.é"),
                "signing_policy": "required",
            }
        ),
    ],
)
def test_settings_come_back_from_the_environment_as_they_went(settings):
    assert read_settings({"PATH": "/bin", **settings.to_environment()}) == settings


def test_what_has_a_default_may_be_left_out():
    needed = ("ROOT", "MANIFEST", "STORE", "CACHE")
    environment = {f"MERGELINE_SERVE_{name}": name for name in needed}
    assert read_settings(environment).max_records == 1000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MERGELINE_SERVE_POLL_SECONDS", "soon"),
        ("MERGELINE_SERVE_MAX_RECORDS", "0"),
        ("MERGELINE_SERVE_TRUSTED_TYPES", "flights.Hours"),
        ("MERGELINE_SERVE_PORTT", "3000"),
    ],
)
def test_a_wrong_variable_is_named(name, text):
    with pytest.raises(MergelineError, match=name):
        read_settings({**SETTINGS.to_environment(), name: text})


def test_a_missing_variable_is_named():
    environment = SETTINGS.to_environment()
    del environment["MERGELINE_SERVE_STORE"]
    with pytest.raises(MergelineError, match="MERGELINE_SERVE_STORE"):
        read_settings(environment)
