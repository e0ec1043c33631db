"""What the server must know, and how it travels to the worker: as environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
from pydantic import ValidationError

from mergeline.documents import Frozen
from mergeline.errors import MergelineError
from mergeline.params import Count, Positive, SigningParams

PREFIX = "MERGELINE_SERVE_"


class Settings(Frozen):
    """Everything the worker reads.

    `root` is what signatures and the public key are relative to; `url` is where the server answers, for the
    line that says so.
    """

    root: str
    manifest: str
    store: str
    cache: str
    url: str = ""
    poll_seconds: Positive = 2
    max_records: Count = 1000
    max_body_mb: Positive = 10
    trusted_types: tuple[str, ...] = ()
    signing_policy: Literal["off", "required"] = "off"
    public_key: str = SigningParams().public_key

    @property
    def signing(self) -> SigningParams:
        """Whether a model must be signed, and by which key."""
        return SigningParams(policy=self.signing_policy, public_key=self.public_key)

    @property
    def max_body_bytes(self) -> int:
        """The largest body, in bytes (a megabyte is 10⁶)."""
        return int(self.max_body_mb * 1_000_000)

    def to_environment(self) -> dict[str, str]:
        """These settings as environment variables; a list is JSON."""
        return {
            PREFIX + name.upper(): value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in self.model_dump(mode="json").items()
        }


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the worker's settings.

    Raises:
        MergelineError: a variable is missing, unknown or of the wrong kind.
    """
    values: dict[str, object] = {}
    for name, text in environment.items():
        if name.startswith(PREFIX):
            values[name.removeprefix(PREFIX).lower()] = text
    if isinstance(trusted := values.get("trusted_types"), str):
        values["trusted_types"] = tuple(_list(trusted))
    try:
        return Settings.model_validate(values)
    except ValidationError as cause:
        wrong = cause.errors()[0]
        raise MergelineError(
            wrong["msg"].lower(),
            where=PREFIX + str(wrong["loc"][0]).upper(),
            mend="start the server with `mergeline serve`, or set this variable",
        ) from None


def _list(text: str) -> list[str]:
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        raise MergelineError(
            "not a JSON list of names", where=PREFIX + "TRUSTED_TYPES", mend='write it as ["package.module.Name"]'
        ) from None
