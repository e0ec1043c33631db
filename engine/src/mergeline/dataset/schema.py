"""Reads the team's pandera schema: which columns there are, of which kind, within which bounds."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import sys
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergeline.dataset import Kind
from mergeline.documents import nearest
from mergeline.errors import CodeError, DataError
from mergeline.params import DataParams

if TYPE_CHECKING:
    import pandera.pandas as pa


@dataclass(frozen=True)
class SchemaColumn:
    """One column of the team's schema; bounds are inclusive, `allowed` is empty where any value is.

    `zone` is that of the column's times without one; None is UTC.
    """

    name: str
    kind: Kind
    nullable: bool
    minimum: float | None
    maximum: float | None
    allowed: tuple[Any, ...]
    zone: str | None = None


@dataclass(frozen=True)
class TeamSchema:
    """The schema, as pandera checks it and as the engine reads it."""

    pandera: pa.DataFrameSchema
    columns: tuple[SchemaColumn, ...]

    def features(self, data: DataParams) -> tuple[SchemaColumn, ...]:
        """The columns that the model reads, in the schema's order."""
        others = {data.target, data.id, data.time, *data.metadata}
        return tuple(column for column in self.columns if column.name not in others)

    def column(self, name: str) -> SchemaColumn:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)


def load_attribute(reference: str, key: str) -> Any:
    """Import what `module:attribute` names; `key` is where params.yaml names it.

    Raises:
        CodeError: there is no such module or attribute, or importing it raised.
    """
    module_name, attribute = reference.split(":")
    where = f"params.yaml: {key}"
    _forget_bytecode(module_name.partition(".")[0])
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as cause:
        raise CodeError(
            f"cannot import {module_name!r}: {cause}",
            where=where,
            hint=f"create src/{module_name.replace('.', '/')}.py, or install what it imports",
        ) from cause
    except Exception as cause:
        raise CodeError(
            f"importing {module_name!r} raised {type(cause).__name__}: {cause}", where=where, hint="correct that module"
        ) from cause
    if not hasattr(module, attribute):
        guess = nearest(attribute, dir(module))
        raise CodeError(
            f"{module_name} has no {attribute!r}",
            where=where,
            hint=f"did you mean {guess!r}?" if guess else f"define {attribute} in {module_name}",
        )
    return getattr(module, attribute)


def _forget_bytecode(package: str) -> None:
    """Delete the byte code of the team's package, where it is not loaded yet.

    Python takes it for current after a change that left the file's size and the second of its time as they were; a
    model of the code before would get the lineage of the code now.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        spec = None if package in sys.modules else importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            if not Path(folder).is_relative_to(sys.prefix):
                for file in Path(folder).rglob("__pycache__/*.pyc"):
                    file.unlink(missing_ok=True)


def load_schema(data: DataParams) -> TeamSchema:
    """The schema that `data.schema` names.

    Raises:
        CodeError: it is not a pandera schema, or a column has a type that has no kind.
        DataError: a column that params name is not in it, two columns' names differ by case only, or there is no time
            zone of that name.
    """
    import pandera.pandas as pa

    found = load_attribute(data.schema_, "data.schema")
    if isinstance(found, type) and issubclass(found, pa.DataFrameModel):
        found = found.to_schema()
    if not isinstance(found, pa.DataFrameSchema):
        raise CodeError(
            f"{data.schema_} is a {type(found).__name__}",
            where="params.yaml: data.schema",
            hint="make it a pandera DataFrameModel or DataFrameSchema",
        )
    columns = (_column(str(name), column) for name, column in found.columns.items())
    schema = TeamSchema(
        found, tuple(replace(each, zone=data.timezone) if each.name == data.time else each for each in columns)
    )
    _names_differ(schema, data)
    _roles_are_columns(schema, data)
    if data.timezone is not None:
        _zone_exists(data.timezone)
    return schema


def _names_differ(schema: TeamSchema, data: DataParams) -> None:
    """SQL takes `Age` and `age` for one column: the journal of the one would be read as the other's."""
    seen: dict[str, str] = {}
    for column in schema.columns:
        other = seen.setdefault(column.name.lower(), column.name)
        if other != column.name:
            raise DataError(
                f"columns {other!r} and {column.name!r} differ by case only, and SQL takes them for one",
                where=data.schema_,
                hint="give one of them another name, there and in the data",
            )


def _zone_exists(name: str) -> None:
    known = zoneinfo.available_timezones()
    if name not in known:
        guess = nearest(name, sorted(known))
        raise DataError(
            f"there is no time zone {name!r}",
            where="params.yaml: data.timezone",
            hint=f"did you mean {guess!r}?" if guess else "take a name of the IANA database, as Europe/Berlin",
        )


def _roles_are_columns(schema: TeamSchema, data: DataParams) -> None:
    names = [column.name for column in schema.columns]
    roles = [("target", data.target), ("id", data.id), ("time", data.time), *(("metadata", n) for n in data.metadata)]
    for role, name in roles:
        if name is not None:
            require_column(name, names, f"data.{role}", f"add it to {data.schema_}")
    if data.time is not None and schema.column(data.time).kind is not Kind.TIME:
        raise DataError(
            f"column {data.time!r} is a {schema.column(data.time).kind}, not a time",
            where="params.yaml: data.time",
            hint=f"give it a datetime type in {data.schema_}",
        )
    for column in schema.features(data):
        if column.kind is Kind.TIME:
            raise DataError(
                f"feature {column.name!r} is a time, which a model cannot read",
                where=data.schema_,
                hint="make numbers of it (hour, weekday, days since …), or name it under data.metadata",
            )


def require_column(name: str, names: Sequence[str], key: str, otherwise: str = "") -> None:
    """Insist on a column that params.yaml names under `key`.

    Raises:
        DataError: there is none; the hint has the nearest name, or what to do `otherwise`.
    """
    if name not in names:
        guess = nearest(name, names)
        hint = f"did you mean {guess!r}?" if guess else otherwise or f"name one of: {', '.join(names)}"
        raise DataError(f"the schema has no column {name!r}", where=f"params.yaml: {key}", hint=hint)


def _column(name: str, column: pa.Column) -> SchemaColumn:
    stated = [check.statistics or {} for check in column.checks]
    allowed = next((tuple(found["allowed_values"]) for found in stated if found.get("allowed_values") is not None), ())
    kind = _kind(name, column.dtype)
    lows, highs = _bounds(column, allowed) if kind in (Kind.NUMBER, Kind.INTEGER) else ([], [])
    return SchemaColumn(
        name=name,
        kind=kind,
        nullable=bool(column.nullable),
        minimum=max(lows, default=None),
        maximum=min(highs, default=None),
        allowed=allowed,
    )


def _bounds(column: pa.Column, allowed: tuple[Any, ...]) -> tuple[list[float], list[float]]:
    """The inclusive bounds that the checks of a numeric column set; an exclusive one becomes the next number."""
    lows, highs = ([float(min(allowed))], [float(max(allowed))]) if allowed else ([], [])
    for check in column.checks:
        found = check.statistics or {}
        low, high = found.get("min_value"), found.get("max_value")
        if isinstance(low, (int, float)):
            exclusive = check.name == "greater_than" or found.get("include_min") is False
            lows.append(math.nextafter(low, math.inf) if exclusive else float(low))
        if isinstance(high, (int, float)):
            exclusive = check.name == "less_than" or found.get("include_max") is False
            highs.append(math.nextafter(high, -math.inf) if exclusive else float(high))
    return lows, highs


def _kind(name: str, dtype: Any) -> Kind:
    text = str(dtype).lower()
    for prefixes, kind in (
        (("float", "double"), Kind.NUMBER),
        (("int", "uint"), Kind.INTEGER),
        (("bool",), Kind.BOOLEAN),
        (("str", "string", "category", "object"), Kind.CATEGORY),
        (("datetime", "timestamp"), Kind.TIME),
    ):
        if text.startswith(prefixes):
            return kind
    raise CodeError(
        f"column {name!r} has type {dtype}, which has no kind here",
        where="the team's schema",
        hint="use float, int, bool, str or datetime",
    )
