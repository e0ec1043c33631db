"""The 442 patients that scikit-learn ships (Efron et al., 2004)."""

from pathlib import Path


def write(folder: Path) -> None:
    """Write one partition."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(as_frame=True, scaled=False)
    rows = patients.data.rename(columns={"bp": "pressure"})
    rows["sex"] = rows["sex"].astype(int).astype(str)
    rows["progression"] = patients.target
    rows.insert(0, "patient", range(len(rows)))
    rows.to_csv(folder / "diabetes.csv", index=False)
