"""Writes the repository's pandera schema as a suite of Great Expectations, to standard output."""

import json
import sys
from pathlib import Path

from mergeline.dataset.schema import load_schema
from mergeline.params import read_params


def suite(root: Path) -> dict:
    """The suite: columns, what may be missing, bounds and allowed values of each, and the id's uniqueness."""
    params = read_params(root / "params.yaml")
    sys.path.insert(0, str(root / "src"))
    schema = load_schema(params.data)
    expectations = [
        _expect("table_columns_to_match_set", column_set=[each.name for each in schema.columns], exact_match=False)
    ]
    for each in schema.columns:
        if not each.nullable:
            expectations.append(_expect("column_values_to_not_be_null", column=each.name))
        if each.minimum is not None or each.maximum is not None:
            bounds = {"min_value": each.minimum, "max_value": each.maximum}
            expectations.append(_expect("column_values_to_be_between", column=each.name, **bounds))
        if each.allowed:
            expectations.append(_expect("column_values_to_be_in_set", column=each.name, value_set=list(each.allowed)))
    if params.data.id:
        expectations.append(_expect("column_values_to_be_unique", column=params.data.id))
    return {"name": params.name, "expectations": expectations}


def _expect(what: str, **arguments: object) -> dict:
    return {"type": f"expect_{what}", "kwargs": arguments}


if __name__ == "__main__":
    json.dump(suite(Path.cwd()), sys.stdout, indent=2)
