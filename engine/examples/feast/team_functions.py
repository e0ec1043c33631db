"""What the team computes from the data's columns; the training pipeline imports the same functions."""

import pandas as pd


def dew_point_spread(rows: pd.DataFrame) -> pd.DataFrame:
    """How far the air is from fog, in °F."""
    return pd.DataFrame({"dew_point_spread": rows["temp"] - rows["dewp"]})
