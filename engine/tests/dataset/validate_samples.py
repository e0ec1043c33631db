"""What the tests of the data gate share."""

import pandas as pd

from mergeline.dataset.validate import validate
from toy_data import toy_params


def findings_of(tmp_path, **sections):
    return validate(tmp_path, toy_params(**sections)).findings


def change(path, **columns):
    frame = pd.read_parquet(path)
    frame.assign(**columns).to_parquet(path, index=False)


def only(findings):
    assert len(findings) == 1, [str(finding) for finding in findings]
    return findings[0]
