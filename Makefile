# One task, one word. `make help` lists them.
UV := .tools/bin/uv
UV_VERSION := 0.13.9
RUN := $(UV) run --locked
export DVC_NO_ANALYTICS := 1
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help install demo demo-github test test-long check format serve bench data hooks clean

help:  ## list the tasks
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

$(UV):
	@echo "installing uv $(UV_VERSION) into .tools"
	@python3 -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

install: $(UV)  ## install exactly what uv.lock names into .venv
	@$(UV) sync --locked --quiet

demo: install  ## the whole loop on real flights, in a scratch clone: two to three minutes
	@$(RUN) python scripts/demo.py

demo-github: $(UV)  ## the loop with the real workflow files on a local GitHub: some minutes
	@$(UV) sync --locked --quiet --group github
	@$(RUN) --group github python scripts/demo_github.py

test: $(UV)  ## all tests but the long ones
	@$(UV) sync --locked --quiet --group github
	@$(RUN) --group github pytest --numprocesses=auto --dist=worksteal

test-long: $(UV)  ## the tests that take minutes each, which `make test` leaves out
	@$(UV) sync --locked --quiet --group github
	@$(RUN) --group github pytest -m long

check: install  ## formatting, lint, types and the layers of the design
	@$(RUN) ruff format --check --quiet .
	@$(RUN) ruff check --quiet .
	@$(RUN) mypy
	@$(RUN) lint-imports --no-logo

format: install  ## put the code into shape
	@$(RUN) ruff format --quiet .
	@$(RUN) ruff check --fix --quiet .

serve: install  ## serve what deploy/manifest.yaml says on http://127.0.0.1:3000
	@$(RUN) mergeline serve

bench: install  ## every benchmark, each against a peer: about half an hour
	@for file in benchmarks/*.py; do echo "== $$file"; $(RUN) python $$file || exit 1; done

data: install  ## build the flights partitions from their package, and compare them with what is recorded
	@$(RUN) python scripts/build_flights.py data

# BASE=python:3.11-slim-bookworm@sha256:… takes a base image by digest.
IMAGE ?= mergeline:latest
ENGINE ?= docker
.PHONY: image image-test
image: install  ## the server as a container image: IMAGE=name:tag, ENGINE=docker or buildah
	@$(RUN) python scripts/build_image.py $(IMAGE) --engine $(ENGINE) $(if $(BASE),--base $(BASE))

image-test: install  ## build the image on a Debian made here, and run it read-only: as root, some minutes
	@$(RUN) python scripts/make_image_base.py
	@$(RUN) pytest tests/image

hooks: install  ## run the checks before each commit
	@$(RUN) pre-commit install

clean:  ## delete what the tools left behind, not your data
	rm -rf .tools .venv build demo report .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.PHONY: observability-tools
observability-tools:  ## Prometheus, Alertmanager and node exporter from Debian, for tests/observability: as root
	apt-get install --yes --no-install-recommends prometheus prometheus-alertmanager prometheus-node-exporter
