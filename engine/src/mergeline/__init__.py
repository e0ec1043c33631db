"""Mergeline: pull requests train and judge scikit-learn models, and the merge is the release."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mergeline.model.artifact import LoadedModel

__version__ = "0.1.0"


def load_champion(root: str | Path = ".", *, defer: bool = False) -> LoadedModel:
    """The model that production serves, as the manifest names it.

    Args:
        root: the repository, or a folder in it (a notebook's, say).
        defer: load scikit-learn only when the pipeline itself is asked for, where there is a compiled scorer.

    Returns:
        A model whose `predict` takes a DataFrame of rows; `pipeline` is the fitted pipeline, `signature` what it takes.

    Raises:
        DocumentError: `params.yaml` or the manifest cannot be read.
        ModelError: nothing is released yet, or the model cannot be used here.
        StoreError: the model is not in the store.
    """
    from pathlib import Path

    from mergeline.errors import ModelError
    from mergeline.manifest.schema import MANIFEST_FILE, read_manifest
    from mergeline.model.artifact import fetch_model
    from mergeline.params import PARAMS_FILE, read_params

    here = Path(root).resolve()
    place = next((folder for folder in (here, *here.parents) if (folder / PARAMS_FILE).exists()), here)
    params, stable = read_params(place / PARAMS_FILE), read_manifest(place / MANIFEST_FILE).spec.stable
    if stable is None:
        raise ModelError(
            "nothing is released yet", where=str(place / MANIFEST_FILE), hint="propose a model: mergeline propose"
        )
    return fetch_model(place, stable.source, digest=stable.digest, trusted_types=params.model.trusted, defer=defer)
