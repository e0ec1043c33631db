"""What a row is: one patient, and how far the disease had progressed a year later."""

import pandera.pandas as pa


class Rows(pa.DataFrameModel):
    """One patient, with unscaled measurements."""

    patient: int = pa.Field(unique=True)
    age: float = pa.Field(in_range={"min_value": 0, "max_value": 120})  # years
    sex: str = pa.Field(isin=["1", "2"])
    bmi: float = pa.Field(in_range={"min_value": 10, "max_value": 80})
    pressure: float = pa.Field(in_range={"min_value": 40, "max_value": 200})  # mmHg, mean
    s1: float = pa.Field(in_range={"min_value": 0, "max_value": 600})  # cholesterol
    s2: float = pa.Field(in_range={"min_value": 0, "max_value": 500})  # low-density lipoproteins
    s3: float = pa.Field(in_range={"min_value": 0, "max_value": 200})  # high-density lipoproteins
    s4: float = pa.Field(in_range={"min_value": 0, "max_value": 20})  # ratio of the two
    s5: float = pa.Field(in_range={"min_value": 0, "max_value": 10})  # logarithm of triglycerides
    s6: float = pa.Field(in_range={"min_value": 0, "max_value": 300})  # blood sugar
    progression: float = pa.Field(in_range={"min_value": 0, "max_value": 500})
