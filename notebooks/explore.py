# %% [markdown]
# Data, champion and journal, for questions that no report answers yet. `# %%` begins a cell in VS Code and PyCharm.
# What you find goes into src/ and params.yaml, and from there through the gate.

# %%
import json
from pathlib import Path

import duckdb
import mergeline
import pandas as pd
from mergeline.testing import read_sample

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "params.yaml").exists())
sample = read_sample(ROOT, rows=20_000)  # of the newest partition, evenly spread
rows, params = sample.rows, sample.params
print(rows.describe(include="all").T)

# %% [markdown]
# What production serves. In MLflow, after `mergeline register`: mlflow.sklearn.load_model("models:/NAME@champion").

# %%
champion = mergeline.load_champion(ROOT)
scores = pd.DataFrame(champion.predict(rows), index=rows.index).add_prefix("score ")
print(rows[[params.data.target]].join(scores).sample(10, random_state=0))

# %%
evaluation = ROOT / "evaluation" / "evaluation.json"  # dvc pull brings it
if evaluation.exists():
    print(pd.DataFrame(json.loads(evaluation.read_text())["importance"]).sort_values("loss", ascending=False))

# %% [markdown]
# What was asked and what came true: the server's journal (docs/journal.md), with the newest label of each id.

# %%
journal, answered = ROOT / params.watch.journal, pd.DataFrame()
if any(journal.glob("predictions/*/*/*.parquet")):
    newest = f"read_parquet('{journal}/predictions/*/*/*.parquet', union_by_name = true) ORDER BY _time DESC"
    answered = duckdb.sql(f"FROM {newest} LIMIT 100_000").df()
if len(answered) and any(journal.glob("feedback/*/*.parquet")):
    label = "arg_max(coalesce(_label, _value::varchar), _time) AS truth"
    labels = duckdb.sql(f"SELECT _id, {label} FROM '{journal}/feedback/*/*.parquet' GROUP BY _id").df()
    answered = answered.merge(labels, on="_id", how="left")
print(answered)
