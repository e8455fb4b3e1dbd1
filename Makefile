# make demo: every figure from simulated data, on a laptop.   make test: everything that CI checks.
# make quality: every method against the truth under many conditions; QUICK=1: fewer, in minutes.
PYTHON ?= python3
BIN := .venv/bin
DEMO := results/demo

.PHONY: demo test quality bench install clean clean-all

demo: .venv/.installed
	$(BIN)/snakemake --configfile config/demo.yaml
	@echo "Figures:  $(CURDIR)/$(DEMO)/*.pdf  (and .png)"
	@echo "Tables:   $(CURDIR)/$(DEMO)/tables/"
	@echo "Report:   $(BIN)/snakemake --configfile config/demo.yaml --report $(DEMO)/report.html"

quality: .venv/.installed
	$(BIN)/snakemake results/quality$(if $(QUICK),_quick)/quality.pdf \
		--configfile config/demo.yaml config/quality.yaml $(if $(QUICK),config/quality_quick.yaml)
	@echo "Figure:  $(CURDIR)/results/quality$(if $(QUICK),_quick)/quality.pdf  (and .png)"
	@echo "Table:   $(CURDIR)/results/quality$(if $(QUICK),_quick)/tables/quality.csv"

test:
	PYTHON=$(PYTHON) bash .ci/run

bench: .venv/.installed
	mkdir -p results/bench
	$(BIN)/python -m tenet bench --out results/bench/bench.csv

install: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "TENET needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

# What the demo made; then also the environment. Results at paper scale and downloads stay.
clean:
	rm -rf $(DEMO) results/bench results/quality results/quality_quick

clean-all: clean
	rm -rf .venv .snakemake .mypy_cache .pytest_cache .ruff_cache
