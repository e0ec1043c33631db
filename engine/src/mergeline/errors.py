"""What can go wrong, each error with what was wrong, where, and how to fix it."""

from __future__ import annotations


class MergelineError(Exception):
    """The root of every error that Mergeline raises on purpose.

    Args:
        what: what was wrong, in one sentence.
        where: the file, key, column or row that it was found in.
        hint: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        # Half a character, as in a file's name that is not UTF-8, can be written nowhere.
        self.what, self.where, self.hint = (part.encode(errors="replace").decode() for part in (what, where, hint))
        super().__init__(self.what, self.where, self.hint)

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}\n  hint: {self.hint}" if self.hint else located


class DocumentError(MergelineError):
    """A YAML or JSON file that people edit does not hold what it must."""


class ParamsError(DocumentError):
    """`params.yaml` does not hold what it must."""


class ManifestError(DocumentError):
    """`deploy/manifest.yaml` does not hold what it must."""


class CodeError(MergelineError):
    """The team's package does not offer what `params.yaml` names, or it raised."""


class DataError(MergelineError):
    """A partition cannot be read, or the data break a rule."""


class ModelError(MergelineError):
    """A model folder cannot be used."""


class DigestError(ModelError):
    """The bytes are not the bytes that were promised."""


class UntrustedTypeError(ModelError):
    """The model file names a type that is not on the list of trusted types."""


class VersionError(ModelError):
    """The installed libraries are not those that the model was made with, or is to be made with."""


class StoreError(MergelineError):
    """An object is missing from the store, or the store cannot be reached."""


class HoldError(MergelineError):
    """The proposed digest is under a hold."""


class SignatureError(MergelineError):
    """A model folder is not signed as the policy asks."""


class BundleError(MergelineError):
    """The folder of a proposal holds what it must not, or lacks what it must hold."""


class ForgeError(MergelineError):
    """Git, or the place that keeps pull requests, refused."""


class ToolError(MergelineError):
    """A program that Mergeline calls failed."""


class WatchError(MergelineError):
    """Production cannot be watched as asked."""


class TrafficError(MergelineError):
    """The traffic that was asked for cannot be sent."""
