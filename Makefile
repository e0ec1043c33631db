# One task, one word. `make help` lists them.
UV := .tools/bin/uv
UV_VERSION := 0.13.9
RUN := $(UV) run --locked
export DVC_NO_ANALYTICS := 1
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_DISABLE_TELEMETRY := true
# Containers set it to stay small; here each of the many processes would compile scikit-learn again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install test check format serve image hooks clean

help:  ## list the tasks
	@grep -hE '^[a-z-]+::?.*##' $(MAKEFILE_LIST) | sed -E 's/::?.*## /\t/' | expand -t 20

$(UV):
	@echo "installing uv $(UV_VERSION) into .tools"
	@python3 -m venv .tools && .tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

install: $(UV)  ## install exactly what uv.lock names into .venv
	@$(UV) sync --locked --quiet

test:: install  ## your tests: seconds
	@$(RUN) pytest

check:: install  ## formatting and lint
	@{ $(RUN) ruff format --check . && $(RUN) ruff check --quiet .; } || { echo "most of it is mended by: make format"; exit 1; }

format:: install  ## format the code
	@$(RUN) ruff format --quiet .
	@$(RUN) ruff check --fix --quiet .

serve: install  ## serve what deploy/manifest.yaml says on http://127.0.0.1:3000
	@$(RUN) mergeline serve

# BASE=python:3.11-slim-bookworm@sha256:… takes a base image by digest.
IMAGE ?= mergeline:latest
ENGINE ?= docker
image: install  ## the server as a container image: IMAGE=name:tag, ENGINE=docker or buildah
	@$(RUN) mergeline image build $(IMAGE) --engine $(ENGINE) $(if $(BASE),--base $(BASE))

hooks: install  ## run the checks before each commit
	@$(RUN) pre-commit install

clean:  ## delete what the tools left behind, not your data
	rm -rf .tools .venv build report .pytest_cache .ruff_cache

-include engine/engine.mk
