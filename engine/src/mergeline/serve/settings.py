"""What the server must know, and how it travels to the worker: as environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from pydantic import Field, ValidationError

from mergeline.errors import MergelineError
from mergeline.params import Params, ServeParams
from mergeline.release_params import SigningParams

PREFIX = "MERGELINE_SERVE_"
SHARED_VARIABLE = "MERGELINE_RUN_FOLDER"
"""Names a folder that the workers of one run share, and that is deleted when the run ends."""
SUPERVISED_VARIABLE = "MERGELINE_SUPERVISED"
"""Set in a worker that a supervisor started, one of several."""


class Settings(ServeParams):
    """Everything the worker reads: the section `serve` of the params, and the places.

    `root` is what signatures and the public key are relative to. `state_folder` keeps the state of a rollout over a
    restart, and `journal_folder` the answers; empty, they are `build/serve` and `journal` in the root. `peers` are the
    servers of one deployment, as `host:port`: a candidate that one of them aborts goes from all. `url` is where
    the server answers, for the line that says so. With an `api_key` every route but the probes asks for it.
    """

    root: str
    manifest: str
    store: str
    cache: str
    state_folder: str = ""
    journal_folder: str = ""
    peers: tuple[str, ...] = ()
    url: str = ""
    api_key: str = Field(default="", repr=False)
    trusted_types: tuple[str, ...] = ()
    signing_policy: Literal["off", "required"] = "off"
    public_key: str = SigningParams().public_key

    @classmethod
    def of(cls, params: Params, **places: Any) -> Settings:
        """The settings that a repository's `params.yaml` gives, and the places."""
        signing = params.release.signing
        return cls(
            **dict(params.serve),
            **places,
            trusted_types=params.model.trusted,
            signing_policy=signing.policy,
            public_key=signing.public_key,
        )

    @property
    def signing(self) -> SigningParams:
        """Whether a model must be signed, and by which key."""
        return SigningParams(policy=self.signing_policy, public_key=self.public_key)

    @property
    def state_path(self) -> Path:
        """Where the state of a rollout is kept."""
        return Path(self.state_folder) if self.state_folder else Path(self.root, "build", "serve")

    @property
    def journal_path(self) -> Path:
        """Where the answers are kept."""
        return Path(self.journal_folder) if self.journal_folder else Path(self.root, "journal")

    @property
    def max_body_bytes(self) -> int:
        """The largest body, in bytes (a megabyte is 10⁶)."""
        return int(self.max_body_mb * 1_000_000)

    def to_environment(self) -> dict[str, str]:
        """These settings as environment variables; what is no text is JSON."""
        return {
            PREFIX + name.upper(): value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in self.model_dump(mode="json").items()
        }


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the worker's settings.

    Raises:
        MergelineError: a variable is missing, unknown or of the wrong kind.
    """
    values = {
        name.removeprefix(PREFIX).lower(): _value(name, text)
        for name, text in environment.items()
        if name.startswith(PREFIX) and not _is_link(name, text)
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as cause:
        wrong = cause.errors()[0]
        raise MergelineError(
            wrong["msg"].lower(),
            where=PREFIX + ".".join(str(part) for part in wrong["loc"]).upper(),
            hint="start the server with `mergeline serve`, or set this variable",
        ) from None


def _is_link(name: str, text: str) -> bool:
    """Whether Kubernetes set this variable, beside a Service that is called `mergeline-serve`."""
    what = name.removeprefix(PREFIX)
    return what.startswith(("SERVICE_HOST", "SERVICE_PORT", "PORT_")) or (what == "PORT" and "://" in text)


def _value(name: str, text: str) -> object:
    """A variable's value: text where the setting is text, else JSON."""
    field = Settings.model_fields.get(name.removeprefix(PREFIX).lower())
    if field is None or field.annotation in (str, Literal["off", "required"]):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        example = '["package.module.Name"]' if field.annotation == tuple[str, ...] else "2.5"
        raise MergelineError("not valid JSON", where=name, hint=f"write it as {example}") from None
