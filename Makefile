# make demo: every figure from simulated data, on a laptop.   make test: everything that CI checks.
# make paper: every figure at full scale.   make fig3: one figure.   CORES=8 uses so many cores.
# make cost: the hours, disk and memory of all that make paper would run; FIGURE=fig3: of one figure;
# NODES=100: and how long a cluster of so many nodes with a GPU each would take.
# make quality: every method against the truth under many conditions; QUICK=1: fewer, in minutes;
# GPU=1: with longer trainings of a wider network.
# make real: real structures, taken with beams that the model is not told of; DATA: folder of their
# files; QUICK=1: fewer.
# make sbom, make lock: what is installed, and what is to be installed, by checksums.
# make fuzz: changed files and settings, for MINUTES; make kill: runs that are killed, KILLS of each.
# make unlock: after a kill or a power cut, so that the same command goes on.
PYTHON ?= python3
BIN := .venv/bin
# Where Python may not keep what it compiles, each of 168 jobs compiles for seconds what it imports.
unexport PYTHONDONTWRITEBYTECODE
DEMO := results/demo
REAL := real$(if $(QUICK),_quick)
QUALITY := quality$(if $(QUICK),_quick)$(if $(GPU),_gpu)
# Shows jobs done of all, time left and what runs now; what Snakemake says is in .snakemake/log.
FOLLOWED := PYTHONPATH=workflow/plugins$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/snakemake --logger=progress

# Snakemake leaves a lock behind only where it was killed, or where another one runs.
LOCKED := test -z "$$(ls -A .snakemake/locks 2>/dev/null)" || \
	echo "Locked: if the run before was killed, and nothing of it runs, 'make unlock' and once more"

.PHONY: demo test quality real bench install unlock clean clean-all paper cost sbom lock fuzz kill
.PHONY: fig1 fig2 fig3 fig4 fig5 supp supp_motion supp_training

demo: .venv/.installed
	@$(FOLLOWED) --configfile config/demo.yaml || { $(LOCKED); exit 1; }
	@echo "Figures:  $$PWD/$(DEMO)/*.pdf  (and .png)"
	@echo "Tables:   $$PWD/$(DEMO)/tables/"
	@echo "Report:   $(BIN)/snakemake --configfile config/demo.yaml --report $(DEMO)/report.html"

# What is installed, as CycloneDX; and every package of the paper's environment by its checksums, for
# Linux and this Python.
sbom: .venv/.installed
	$(BIN)/python -m pip install --quiet '.[supply]'
	mkdir -p results
	$(BIN)/cyclonedx-py environment $(BIN)/python --of JSON -o results/sbom.json

lock: .venv/.installed
	$(BIN)/python -m pip install --quiet '.[supply]'
	$(BIN)/pip-compile --quiet --allow-unsafe --generate-hashes --extra paper --extra formats --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock \
		pyproject.toml

# Snakemake finds the GPUs itself.
paper: .venv/.installed
	@$(FOLLOWED) all $(if $(CORES),--cores $(CORES)) || { $(LOCKED); exit 1; }
	@echo "Figures:  $$PWD/results/*.pdf  (and .png)"
	@echo "Tables:   $$PWD/results/tables/"

fig1 fig2 fig3 fig4 fig5 supp supp_motion supp_training: .venv/.installed
	@$(FOLLOWED) results/$@.pdf $(if $(CORES),--cores $(CORES)) || { $(LOCKED); exit 1; }
	@echo "Figure:  $$PWD/results/$@.pdf  (and .png)"

cost: .venv/.installed
	@$(if $(NODES),TENET_NODES=$(NODES) )$(if $(CPU_MINUTES),TENET_CPU_MINUTES=$(CPU_MINUTES) )\
		$(BIN)/snakemake $(if $(FIGURE),results/$(FIGURE).pdf,all) --dry-run --quiet

quality: .venv/.installed
	$(if $(and $(QUICK),$(GPU)),$(error give QUICK=1 or GPU=1, not both))
	$(if $(GPU),@nvidia-smi -L || { echo "make quality GPU=1 needs an NVIDIA GPU"; exit 1; })
	@$(FOLLOWED) results/$(QUALITY)/quality.pdf \
		--configfile config/demo.yaml config/quality.yaml \
		$(if $(filter-out quality,$(QUALITY)),config/$(QUALITY).yaml) || { $(LOCKED); exit 1; }
	@echo "Figure:  $$PWD/results/$(QUALITY)/quality.pdf  (and .png)"
	@echo "Table:   $$PWD/results/$(QUALITY)/tables/quality.csv"

real: .venv/.installed
	@$(FOLLOWED) results/$(REAL)/real.pdf \
		--configfile config/demo.yaml config/real.yaml $(if $(QUICK),config/real_quick.yaml) \
		$(if $(DATA),--config 'real={"folder": "$(DATA)"}') || { $(LOCKED); exit 1; }
	@echo "Figure:  $$PWD/results/$(REAL)/real.pdf  (and .png)"
	@echo "Tables:  $$PWD/results/$(REAL)/tables/real.csv, real_psf.csv"

test:
	PYTHON=$(PYTHON) bash .ci/run

fuzz: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python tests/fuzz/run_fuzz.py $(or $(MINUTES),10)

kill: .venv/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(BIN)/python tests/pipeline/kills.py $(or $(KILLS),20)

bench: .venv/.installed
	mkdir -p results/bench
	$(BIN)/python -m tenet bench --out results/bench/bench.csv

install: .venv/.installed

# One lock serves all configurations.
unlock: .venv/.installed
	$(BIN)/snakemake --configfile config/demo.yaml --unlock

# Python keeps what it compiles at the first import; to compile all that is installed takes a minute.
.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "TENET needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[paper]'
	touch $@

# What the demo made; then also the environment. Results at paper scale and downloads stay.
clean:
	rm -rf $(DEMO) results/bench results/quality results/quality_quick results/quality_gpu \
		results/real results/real_quick

clean-all: clean
	rm -rf .venv .snakemake .mypy_cache .pytest_cache .ruff_cache site
