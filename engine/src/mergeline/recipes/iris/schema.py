"""What a row is: one flower, measured."""

import pandera.pandas as pa


class Rows(pa.DataFrameModel):
    """One flower; lengths and widths in centimetres."""

    flower: int = pa.Field(unique=True)
    sepal_length: float = pa.Field(in_range={"min_value": 0, "max_value": 15})
    sepal_width: float = pa.Field(in_range={"min_value": 0, "max_value": 15})
    petal_length: float = pa.Field(in_range={"min_value": 0, "max_value": 15})
    petal_width: float = pa.Field(in_range={"min_value": 0, "max_value": 15})
    species: str = pa.Field(isin=["setosa", "versicolor", "virginica"])
