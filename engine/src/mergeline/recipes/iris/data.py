"""The 150 flowers that scikit-learn ships, sorted by species."""

from pathlib import Path


def write(folder: Path) -> None:
    """Write one partition."""
    from sklearn.datasets import load_iris

    flowers = load_iris(as_frame=True)
    rows = flowers.data.set_axis(["sepal_length", "sepal_width", "petal_length", "petal_width"], axis=1)
    rows["species"] = flowers.target.map(dict(enumerate(flowers.target_names)))
    rows.insert(0, "flower", range(len(rows)))
    rows.to_csv(folder / "iris.csv", index=False)
