"""What a row is: one handwritten digit, 8 by 8 pixels."""

import pandera.pandas as pa

PIXELS = [f"pixel_{row}{column}" for row in range(8) for column in range(8)]

Rows = pa.DataFrameSchema(
    {
        "image": pa.Column(int, unique=True),
        **{name: pa.Column(float, pa.Check.in_range(0, 16)) for name in PIXELS},
        "digit": pa.Column(str, pa.Check.isin([str(digit) for digit in range(10)])),
    }
)
