# The engine's tasks: in this repository only.
ENGINE_RUN := UV=$(abspath $(UV)) $(abspath $(UV)) run --project engine --locked
ENGINE_GITHUB := $(ENGINE_RUN) --group local-github
PYTEST := cd engine && UV=$(abspath $(UV)) $(abspath $(UV)) run --locked --group local-github pytest

.PHONY: demo demo-github test-all bench data image-test observability-tools engine

engine: $(UV)
	@$(UV) sync --project engine --locked --quiet --group local-github

demo: engine  ## the whole loop on real flights, in a scratch clone: two to three minutes
	@$(ENGINE_RUN) python engine/dev/demo.py

demo-github: engine  ## the loop with the real workflow files on a local GitHub: some minutes
	@$(ENGINE_GITHUB) python engine/dev/github/demo_github.py

test:: engine  ## then the engine's fast tests
	@$(PYTEST) --numprocesses=auto --dist=worksteal

test-all: engine  ## what needs act, images, servers or minutes, which `make test` leaves out
	@$(PYTEST) --numprocesses=auto --dist=worksteal tests/e2e

check:: engine  ## the engine's too, with types and layers
	@cd engine && UV=$(abspath $(UV)) && $$UV run --locked ruff format --check --quiet . && $$UV run --locked ruff check --quiet . \
		&& $$UV run --locked mypy && $$UV run --locked lint-imports --no-logo

format:: engine
	@cd engine && UV=$(abspath $(UV)) && $$UV run --locked ruff format --quiet . && $$UV run --locked ruff check --fix --quiet .

bench: engine  ## every benchmark, each against a peer: about half an hour
	@for file in engine/benchmarks/*.py; do echo "== $$file"; $(ENGINE_RUN) python $$file || exit 1; done

data: engine  ## build the flights partitions from their package, and compare them with what is recorded
	@$(ENGINE_RUN) python engine/dev/build_flights.py data

image-test: engine  ## build the image on a Debian made here, and run it read-only: as root, some minutes
	@$(ENGINE_RUN) python engine/dev/make_image_base.py
	@$(PYTEST) tests/e2e/image

observability-tools:  ## Prometheus, Alertmanager and node exporter from Debian, for tests/e2e/observability: as root
	apt-get install --yes --no-install-recommends prometheus prometheus-alertmanager prometheus-node-exporter
