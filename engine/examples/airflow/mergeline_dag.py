"""Looks at production once a day, and proposes a retrained model where a challenger proves a gain."""

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

IN_REPOSITORY = "cd {{ var.value.mergeline_repository }} && "

with DAG(
    dag_id="mergeline",
    schedule="17 4 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10), "execution_timeout": timedelta(hours=2)},
    tags=["mergeline"],
) as dag:
    pull = BashOperator(
        task_id="pull",
        bash_command=IN_REPOSITORY + "git pull --ff-only --quiet && uv sync --locked --quiet && dvc pull --quiet",
    )
    watch = BashOperator(task_id="watch", bash_command=IN_REPOSITORY + "mergeline watch --all")
    # Nothing to propose is no failure: the verb ends with 0 and says why.
    retrain = BashOperator(task_id="retrain", bash_command=IN_REPOSITORY + "mergeline retrain --all --pull-request")
    pull >> watch >> retrain
