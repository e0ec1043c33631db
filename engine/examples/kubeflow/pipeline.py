"""Looks at production, and proposes a retrained model where a challenger proves a gain."""

from kfp import compiler, dsl, kubernetes

IMAGE = "ghcr.io/OWNER/NAME/ci:latest"
CLONE = (
    'git clone --quiet "https://x-access-token:$GITHUB_TOKEN@github.com/$0" repository && cd repository && '
    "uv sync --locked --quiet && . .venv/bin/activate && dvc pull --quiet && "
)


@dsl.container_component
def watch(repository: str, report: dsl.Output[dsl.HTML]):
    """Compare production with what the model was made from."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["bash", "-euc", CLONE + 'mergeline watch --all && install -D build/watch/watch.html "$1"'],
        args=[repository, report.path],
    )


@dsl.container_component
def retrain(repository: str):
    """Open or update the pull request of a retrained model; with nothing to propose it ends well and says why."""
    return dsl.ContainerSpec(
        image=IMAGE, command=["bash", "-euc", CLONE + "mergeline retrain --all --pull-request"], args=[repository]
    )


@dsl.pipeline(name="mergeline", description="Watch production; retrain where it pays.")
def mergeline(repository: str = "OWNER/NAME"):
    """One run a day is enough: set it as a recurring run."""
    watched = watch(repository=repository)
    retrained = retrain(repository=repository).after(watched)
    for step in (watched, retrained):
        step.set_caching_options(enable_caching=False)
        kubernetes.use_secret_as_env(step, secret_name="github", secret_key_to_env={"token": "GITHUB_TOKEN"})


if __name__ == "__main__":
    compiler.Compiler().compile(mergeline, "mergeline.yaml")
