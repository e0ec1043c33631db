# The engine's tasks: in the repository that develops it, and in no other.
ENGINE_RUN := $(UV) run --project engine --locked
IN_ENGINE := $(UV) run --directory engine --locked
PYTEST := $(IN_ENGINE) --group local-github pytest
# Many tests wait for programs: with one more process than there are cores, no core does.
PYTEST_MANY := $(PYTEST) --numprocesses=$$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist=loadgroup

.PHONY: engine new adopt upgrade demo demo-github test-all test-thorough bench data image-test observability-tools watch-tools

engine: $(UV)
	@$(UV) sync --project engine --locked --quiet --group local-github

demo: engine  ## the whole loop on real flights, in a scratch clone: two to three minutes
	@$(ENGINE_RUN) --group local-github python engine/dev/demo.py

demo-github: engine  ## the loop with the real workflow files on a local GitHub: some minutes
	@PYTHONPATH=engine/dev $(ENGINE_RUN) --group local-github python engine/dev/github/demo_github.py

new: engine  ## make a repository from this template: DIR=../orders, DATA="--data recipe=iris --defaults"
	@UV=$(abspath $(UV)) $(ENGINE_RUN) mergeline new $(DIR) $(DATA)

adopt: engine  ## after GitHub's "Use this template": make this repository your own: NAME=orders, DATA as for new
	@UV=$(abspath $(UV)) $(ENGINE_RUN) mergeline adopt $(NAME) $(DATA)

upgrade: engine  ## bring a repository made from this template up to date with it: DIR=../orders
	@cd $(DIR) && UV=$(abspath $(UV)) $(abspath engine/.venv/bin/mergeline) upgrade --source $(CURDIR)

test:: engine  ## then the engine's fast tests
	@$(PYTEST_MANY)

# What failed runs again alone: on a busy machine a server may answer too late for its test.
test-all: engine  ## what needs act, servers or minutes, which `make test` leaves out; demo-github and image-test are tests too
	@$(PYTEST_MANY) -rs tests/e2e || \
		$(PYTEST) --last-failed --last-failed-no-failures=none --numprocesses=1 --dist=loadgroup tests/e2e

test-thorough: engine  ## every property with four times the examples of `make test`
	@$(PYTEST) --numprocesses=auto -m hypothesis --hypothesis-profile=thorough

check:: engine  ## then the engine's, with types and layers
	@$(IN_ENGINE) ruff format --check --quiet .
	@$(IN_ENGINE) ruff check --quiet .
	@$(IN_ENGINE) mypy
	@$(IN_ENGINE) lint-imports --no-logo

format:: engine  ## then the engine's
	@$(IN_ENGINE) ruff format --quiet .
	@$(IN_ENGINE) ruff check --fix --quiet .

bench: engine  ## every benchmark, each against a peer: about half an hour
	@for file in engine/benchmarks/*.py; do echo "== $$file"; $(ENGINE_RUN) python $$file || exit 1; done

data: engine  ## build the flights partitions from their package, and compare them with what is recorded
	@$(ENGINE_RUN) python -m mergeline.recipes.flights.data data

image-test: engine  ## build the image on a Debian made here, and run it read-only: as root, some minutes
	@$(ENGINE_RUN) python engine/dev/make_image_base.py
	@$(PYTEST) tests/e2e/image

observability-tools:  ## Prometheus, Alertmanager and node exporter from Debian, for tests/e2e/observability: as root
	apt-get install --yes --no-install-recommends prometheus prometheus-alertmanager prometheus-node-exporter

watch-tools:  ## Postgres and Java from Debian, for tests/e2e/watch: as root
	apt-get install --yes --no-install-recommends postgresql default-jre-headless
