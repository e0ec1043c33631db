"""The 1,797 handwritten digits that scikit-learn ships."""

from pathlib import Path


def write(folder: Path) -> None:
    """Write one partition."""
    from sklearn.datasets import load_digits

    images = load_digits(as_frame=True)
    names = [f"pixel_{row}{column}" for row in range(8) for column in range(8)]
    rows = images.data.set_axis(names, axis=1)
    rows["digit"] = images.target.astype(str)
    rows.insert(0, "image", range(len(rows)))
    rows.to_parquet(folder / "digits.parquet", index=False)
