"""Which types a model file may name: those that fitted pipelines hold, and those of the team's own package."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable

from mergeline.errors import UntrustedTypeError

TRUSTED_TYPES = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "functools.partial",
        "numpy.dtype",
        "numpy.mean",
        "numpy.nan_to_num",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csc.csc_array",
        "scipy.sparse._csc.csc_matrix",
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.compose._column_transformer.make_column_selector",
        *(f"lightgbm.{name}" for name in ("basic.Booster", "sklearn.LGBMClassifier", "sklearn.LGBMRegressor")),
        *(f"xgboost.{name}" for name in ("core.Booster", "sklearn.XGBClassifier", "sklearn.XGBRegressor")),
        *(f"xgboost.sklearn.{name}" for name in ("XGBRFClassifier", "XGBRFRegressor")),
    }
)
"""Named one by one: what a fitted pipeline holds of other libraries than scikit-learn, and the one class of that one
whose name begins small. None does anything with files, processes or code. The parts of a partial are looked at by
themselves."""

_SKLEARN_CLASS = re.compile(r"sklearn\.(?:\w+\.)*_*[A-Z]\w*")
_SKLEARN_FUNCTION = re.compile(
    r"sklearn\.(?:(?:feature_selection|metrics)\.(?:\w+\.)*[a-z]\w*"
    r"|utils\.validation\.check_array|cluster\._kmeans\._kmeans_single_(?:lloyd|elkan))"
)
_NOT_OF_A_MODEL = re.compile(
    r"sklearn\.(?:callback|conftest|datasets|experimental|externals|tests|utils\._(?:joblib|mocking|show_versions|test\w*)"
    r"|utils\.(?:deprecation|discovery|estimator_checks|fixes|parallel))\."
    r"|sklearn\.(?:\w+\.)*tests\."
)
"""Modules of scikit-learn that load files, start processes or serve its own tests."""


def untrusted(names: Iterable[str], own: tuple[str, ...]) -> list[str]:
    """The names among `names` that a model file may not hold, sorted.

    Args:
        names: dotted names of classes and functions.
        own: the team's: whole names, or a package as `package.*`. Nothing of Python's standard library can be the
            team's own, whatever it says.
    """
    return sorted(name for name in set(names) if name not in TRUSTED_TYPES and not _by_rule(name, own))


def require_trusted(names: Iterable[str], own: tuple[str, ...], where: str) -> None:
    """See that a model file holds nothing that it may not.

    Raises:
        UntrustedTypeError: with what it holds.
    """
    if unknown := untrusted(names, own):
        raise UntrustedTypeError(
            f"the model holds types that are not trusted: {', '.join(unknown)[:500]}",
            where=where,
            hint="if they are your own, name them in params.yaml under model.trusted_types; else do not load this file",
        )


def require_own(names: Iterable[str], where: str) -> None:
    """See that each name stands for what its module defines: a module's name reaches whatever it imports, too.

    Args:
        names: trusted ones. Their modules are imported.
        where: the file that names them.

    Raises:
        UntrustedTypeError: one of them is another library's.
    """
    for name in sorted(set(names) - TRUSTED_TYPES):
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ImportError:
            continue  # skops says which module is missing, and a method is looked at with its class
        except AttributeError:
            raise UntrustedTypeError(
                f"the pipeline calls {name}, and there is no {attribute} at the top level of {module}",
                where=where,
                hint="write it as a named function (`def`) at the top level of a module of your package; where it was "
                "renamed since the model was trained, keep its old name too until another model is released",
            ) from None
        # Compiled parts of scikit-learn give their module without its package.
        defined_in = str(getattr(found, "__module__", None))
        if defined_in.partition(".")[0] == name.partition(".")[0] or defined_in == module.rpartition(".")[2]:
            continue
        raise UntrustedTypeError(
            f"{name} is not defined there but in {defined_in}", where=where, hint="do not load this file"
        )


def refusal(names: list[str], where: str) -> UntrustedTypeError:
    """What to tell whoever trained a pipeline that holds these types."""
    local = [name for name in names if "<lambda>" in name or "<locals>" in name]
    if local:
        return UntrustedTypeError(
            f"the pipeline holds {', '.join(local)}, which no loader could find by its name",
            where=where,
            hint="write it as a named function (`def`) at the top level of a module of your package, and name that",
        )
    return UntrustedTypeError(
        f"the fitted pipeline holds types that no loader would trust: {', '.join(names)}",
        where=where,
        hint="use a function or class of your own package, or name them in params.yaml under model.trusted_types if "
        "you know that loading them is safe",
    )


def _by_rule(name: str, own: tuple[str, ...]) -> bool:
    if not all(part.isidentifier() for part in name.split(".")):
        return False  # a lambda, or a function inside a function
    package = name.partition(".")[0]
    if package == "sklearn":
        known = _SKLEARN_CLASS.fullmatch(name) or _SKLEARN_FUNCTION.fullmatch(name)
        return bool(known) and not _NOT_OF_A_MODEL.match(name)
    if package in sys.stdlib_module_names:
        return False
    return name in own or f"{package}.*" in own
