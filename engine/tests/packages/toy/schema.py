"""Shop orders: will one be returned, how many parcels, what does it cost?"""

import pandas as pd
import pandera.pandas as pa


class Orders(pa.DataFrameModel):
    order: str = pa.Field(unique=True)
    placed: pd.Timestamp
    region: str = pa.Field(isin=["north", "south"])
    channel: str
    amount: float = pa.Field(nullable=True, in_range={"min_value": 0, "max_value": 1000})
    items: int = pa.Field(ge=1)
    gift: bool
    returned: bool


NotASchema = "a string"
