"""What a row is: one card payment, and whether it turned out to be a fraud."""

import pandas as pd
import pandera.pandas as pa


class Rows(pa.DataFrameModel):
    """One payment; whether it was a fraud is known about a month later."""

    payment: str = pa.Field(unique=True)
    paid_at: pd.Timestamp
    merchant: str  # open: new merchants come every day
    channel: str = pa.Field(isin=["shop", "online", "phone"])
    country: str = pa.Field(isin=["home", "near", "far"])
    amount: float = pa.Field(ge=0)
    hour: int = pa.Field(in_range={"min_value": 0, "max_value": 23})
    card_days: float = pa.Field(nullable=True, ge=0)  # days since the card was issued
    payments_today: int = pa.Field(ge=0)  # of the same card, before this one
    fraud: bool
