"""A hundred thousand card payments, generated: no real set of them may be passed on.

What is known of real ones stands in it: half a percent are frauds; a few merchants have most of the payments, and
thousands a handful; frauds are larger, at night, abroad, with new cards, after many payments on one day, and some
merchants have far more of them (Dal Pozzolo et al., 2014, "Learned lessons in credit card fraud detection"). One seed
gives the same rows.
"""

from itertools import pairwise
from pathlib import Path

SEED, MONTHS, ROWS_A_MONTH = 20240101, 5, 20_000
MERCHANTS = 3_000
SHARE = 0.005


def write(folder: Path) -> None:
    """Write five months, a file each."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(SEED)
    rows = MONTHS * ROWS_A_MONTH
    popularity = 1 / np.arange(1, MERCHANTS + 1) ** 0.9
    merchant = random.choice(MERCHANTS, rows, p=popularity / popularity.sum())
    risk = random.normal(0, 1.2, MERCHANTS)[merchant]
    first = pd.Timestamp("2024-01-01")
    starts = [first + pd.DateOffset(months=month) for month in range(MONTHS + 1)]
    seconds = [
        np.sort(random.integers(0, int((end - start).total_seconds()), ROWS_A_MONTH)) for start, end in pairwise(starts)
    ]
    at = pd.DatetimeIndex(
        np.concatenate([start + pd.to_timedelta(part, unit="s") for start, part in zip(starts, seconds, strict=False)])
    )
    payments = pd.DataFrame(
        {
            "payment": [f"P{number:06d}" for number in range(rows)],
            "paid_at": at.astype("datetime64[ms]"),
            "merchant": [f"M{number:04d}" for number in merchant],
            "channel": random.choice(["shop", "online", "phone"], rows, p=[0.6, 0.37, 0.03]),
            "country": random.choice(["home", "near", "far"], rows, p=[0.9, 0.08, 0.02]),
            "amount": np.round(random.lognormal(3.2, 1.1, rows), 2),
            "hour": at.hour.astype("int64"),
            "card_days": np.floor(random.exponential(700, rows)),
            "payments_today": random.poisson(1.4, rows).astype("int64"),
        }
    )
    payments.loc[random.random(rows) < 0.03, "card_days"] = np.nan
    online, far = payments["channel"].ne("shop"), payments["country"].eq("far")
    night = payments["hour"].lt(6)
    score = (
        risk
        + 0.9 * (np.log(payments["amount"]) - 3.2)
        + 1.1 * online
        + 1.6 * far
        + 0.9 * night
        + 1.2 * payments["card_days"].lt(30)
        + 0.5 * payments["payments_today"].sub(1.4)
    ).to_numpy()
    noisy = score + random.logistic(0, 1, rows)
    payments["fraud"] = noisy > np.quantile(noisy, 1 - SHARE)
    for start in starts[:-1]:
        month = payments[payments["paid_at"].dt.to_period("M") == start.to_period("M")]
        month.to_parquet(folder / f"{start:%Y-%m}.parquet", compression="zstd", index=False)
