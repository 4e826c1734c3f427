# `make` alone lists the tasks. They work in .venv and leave the rest of the machine alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ENTRY ?= main
PORT ?= 5000
# Packages' start-up notes stay at home, and idle threads make room: a loaded machine
# otherwise slows training down manyfold.
export MLFLOW_DISABLE_TELEMETRY ?= true
export OMP_WAIT_POLICY ?= PASSIVE

in_venv := PATH="$(CURDIR)/.venv/bin:$$PATH"
# By file, in the order of the folders: files with many tests first would leave the few slow ones
# to the end, and one core idle.
in_parallel := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help
help:  ## List these tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '%s\n' '' \
		'  make run P="learning_rate=0.1 max_depth=3"    parameters' \
		'  make run ENTRY=train                          one step' \
		'  make test ARGS="-k snapshot"                  arguments for pytest' \
		'  make ui PORT=5002                             another port' \
		'  make server AUTH=1                            with users and passwords' \
		'  make serve MODEL=models:/stock_direction/3    another model' \
		'  make bench QUICK=1                            in four minutes; PARTS=imports: a part' \
		'  make lock UPGRADE=1                           the newest versions allowed' \
		'  make PYTHON=python3.12 test                   another Python for a new .venv'

# An experiment named in the environment stays in charge: MLflow refuses to be told twice.
experiment := $(if $(MLFLOW_EXPERIMENT_ID)$(MLFLOW_EXPERIMENT_NAME),,--experiment-name stock_prediction)
parameters = $(foreach parameter,$(filter-out -P,$(P)),-P '$(parameter)')

.PHONY: run
run: .venv/.runtime  ## Features, training, evaluation: the whole recipe
	$(in_venv) python -m mlflow run . --env-manager local \
		--entry-point $(ENTRY) --run-name $(ENTRY) $(experiment) $(parameters)

.PHONY: dask
dask: .venv/.dask  ## Install what engine=dask needs

.PHONY: ui
ui: .venv/.runtime  ## MLflow's pages for the runs in mlflow.db, on 127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(in_venv) python -m mlflow server \
		--host 127.0.0.1 --port $(PORT) --workers 1 --backend-store-uri sqlite:///mlflow.db

# Everything `server` keeps lies in server/. Where nobody gave it a key to sign its pages with, it
# makes one; MLflow takes the first administrator's password, and makes none up.
define with_users
[ -s secret_key ] || head -c 32 /dev/urandom | base64 > secret_key; \
export MLFLOW_FLASK_SERVER_SECRET_KEY="$${MLFLOW_FLASK_SERVER_SECRET_KEY:-$$(cat secret_key)}"; \
export MLFLOW_AUTH_CONFIG_PATH='$(CURDIR)/deploy/make_server.ini'; \
[ -n "$${MLFLOW_AUTH_ADMIN_PASSWORD:-}" ] || [ -e basic_auth.db ] || { \
	echo 'make server AUTH=1: set MLFLOW_AUTH_ADMIN_PASSWORD (12 characters or more), which the' \
		'user admin will have; needed on the first start alone' >&2; exit 1; };
endef

.PHONY: server
server: .venv/.runtime  ## A tracking server, runs and artifacts in server/, on 127.0.0.1:5000
	@umask 077; mkdir -p server; cd server; $(if $(AUTH),$(with_users)) \
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(in_venv) exec python -m mlflow server \
		--host 127.0.0.1 --port $(PORT) --workers 1 --backend-store-uri sqlite:///mlflow.db \
		--artifacts-destination ./mlartifacts $(if $(AUTH),--app-name basic-auth)

MODEL ?= models:/stock_direction@champion
# `ui` has 5000; a PORT that somebody gave is for both.
serve: PORT := $(if $(filter file,$(origin PORT)),5001,$(PORT))

.PHONY: serve
serve: .venv/.runtime  ## The champion behind HTTP, on 127.0.0.1:5001/invocations
	$(in_venv) python -m mlflow models serve --model-uri '$(MODEL)' --env-manager local \
		--host 127.0.0.1 --port $(PORT)

.PHONY: test
test: .venv/.dev  ## The tests, then lint
	$(in_venv) python -m pytest $(in_parallel) -m 'not thorough and (sampled or not faults)' $(ARGS)
	@$(MAKE) --no-print-directory lint

.PHONY: test-faults
test-faults: .venv/.dev  ## Faults on every backend, and what else takes many minutes
	$(in_venv) python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup \
		-m 'thorough or faults' $(ARGS)

.PHONY: check
check: lint  ## Lint, then the tests that take no longer than a minute together
	$(in_venv) python -m pytest $(in_parallel) -m 'not slow and not thorough and not faults' $(ARGS)

.PHONY: lint
lint: .venv/.dev  ## ruff, mypy, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

.PHONY: fmt
fmt: .venv/.dev  ## Format, and mend what ruff can
	.venv/bin/ruff check --fix-only .
	.venv/bin/ruff format .

.PHONY: notebooks
notebooks: .venv/.dev  ## Execute the notebooks anew, in place
	$(in_venv) python tests/execute_notebooks.py

.PHONY: bench
bench: .venv/.dev  ## Speed and memory beside what others take for the same
	PYTHONPATH='$(CURDIR):$(CURDIR)/tests' $(in_venv) python -m bench \
		$(if $(QUICK),--quick) $(if $(WRITE),--write) $(PARTS)

compile = .venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-annotate --no-config --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
stamp_conda_yaml := import hashlib, pathlib, re; \
	lock, conda = map(pathlib.Path, ("requirements.lock", "conda.yaml")); \
	digest = hashlib.sha256(lock.read_bytes()).hexdigest(); \
	conda.write_text(re.sub(r"(?<=lock sha256: )\w+", digest, conda.read_text()))

.PHONY: lock
lock: .venv/.uv  ## Lock what the lists of requirements ask for
	$(compile) requirements.in --output-file requirements.lock
	$(compile) steps/engines/requirements-dask.in --output-file steps/engines/requirements-dask.lock
	$(compile) tests/requirements.in --output-file tests/requirements.lock
	@.venv/bin/python -c '$(stamp_conda_yaml)'

platforms := linux-64 linux-aarch64 osx-arm64

.PHONY: conda-lock
conda-lock:  ## Lock conda.yaml's own packages in conda-lock.yml (needs conda or mamba)
	@solver=$$(command -v conda || command -v mamba || command -v micromamba) || { \
		echo 'make conda-lock: needs conda, mamba or micromamba on PATH, which resolve the' \
			'packages; micromamba is one file: https://mamba.readthedocs.io' >&2; exit 1; }; \
	$(MAKE) --no-print-directory .venv/.dev; \
	.venv/bin/conda-lock lock --conda "$$solver" --file conda.yaml --lockfile conda-lock.yml \
		$(addprefix --platform ,$(platforms))

.PHONY: clean
clean:  ## Remove .venv and the tools' caches; runs, models and mlflow.db stay
	rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find steps tests -name __pycache__ -prune -exec rm -rf {} +

# .venv, in stages. Each leaves a stamp, so a finished stage costs nothing until its lock changes.

right_version := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))

.venv/.created:
	@for python in $(or $(PYTHON),python3.11 python3); do \
		"$$python" -c '$(right_version)' 2>/dev/null && break; \
	done || { echo 'Candlewick needs Python 3.11, 3.12 or 3.13; tried: $(or $(PYTHON),python3.11' \
		'and python3). Install one, or say where it is: make PYTHON=/path/to/python3.12' >&2; exit 1; }; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$$python comes without the venv module. On Debian: apt install python3-venv" >&2; exit 1; }; \
	"$$python" -m venv .venv
	@touch $@

.venv/.uv: tests/requirements.lock | .venv/.created
	@awk '/^uv==/ { found = 1 } found { print } found && !/\\$$/ { exit }' $< > .venv/uv.lock
	@.venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r .venv/uv.lock
	@touch $@

# uv takes a half-copied package for an installed one. So an installation that did not reach its
# end is done over. Compiling now saves every later start from doing it.
define install
@again=; if [ -e .venv/.unfinished ]; then again=--reinstall; fi; touch .venv/.unfinished; \
UV_COMPILE_BYTECODE=1 .venv/bin/python -m uv pip install --python .venv/bin/python \
	--require-hashes $$again $(addprefix --requirements ,$(1))
@rm .venv/.unfinished; touch $@
endef

locks := requirements.lock steps/engines/requirements-dask.lock tests/requirements.lock

.venv/.runtime: requirements.lock .venv/.uv
	$(call install,requirements.lock)

.venv/.dask: steps/engines/requirements-dask.lock .venv/.runtime
	$(call install,requirements.lock steps/engines/requirements-dask.lock)

.venv/.dev: $(locks) .venv/.runtime
	$(call install,$(locks))
