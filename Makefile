# Each target stands for itself: `make demo` and `make test` are all that a newcomer needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CORES ?= all
# What npm fetches for `make view`.
VIEWER := viewer/node_modules/.package-lock.json

ARGS ?= --profile profiles/local --cores $(CORES)

.PHONY: help demo init export crate explain status view stages verify bench bench-scaling bench-dag bench-objects bench-inference bench-slides bench-gpu bench-sliding bench-report test test-slurm test-faults test-viewers docs lint format reference lock clean

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(VENV)/installed: envs/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	@touch $@

# What only `make export`, `make crate` and their tests need, in the same environment.
$(VENV)/installed-export: $(VENV)/installed envs/requirements-export.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-export.txt
	@touch $@

$(VENV)/installed-test: $(VENV)/installed $(VENV)/installed-export envs/requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-test.txt
	-@if command -v npm >/dev/null; then $(MAKE) --no-print-directory --silent $(VIEWER); fi
	@touch $@

demo: $(VENV)/installed  ## Train on one image, segment a slide, show what came out
	$(BIN)/snakemake --profile profiles/local --cores $(CORES)
	@$(MAKE) --no-print-directory --silent results/report.html
	@echo "morning:  results/morning.html"
	@echo "report:   results/report.html"
	@echo "overlay:  results/slides/hela/pictures/overlay.png"
	@cat results/verdict.txt

results/report.html: results/verdict.txt
	$(BIN)/snakemake --profile profiles/local --report $@

# The demo's images, so that the tests need no network.
results/demo/demo.json: $(VENV)/installed
	$(BIN)/snakemake --profile profiles/local --cores $(CORES) $@

test: $(VENV)/installed-test results/demo/demo.json  ## Run the fast tests: no GPU, no network
	$(BIN)/python -m pytest -n 2 -m "not faults"

test-slurm: $(VENV)/installed-test  ## Run the profile on a throw-away Slurm cluster (Debian: slurm-wlm munge)
	$(BIN)/python -m pytest tests/slurm -m "not faults" -rs

test-faults: $(VENV)/installed-test results/demo/demo.json  ## Run the heavy tests: kills, full disks, lost controllers
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit tests/workflow tests/faults -m faults
	$(BIN)/python -m pytest tests/slurm -m faults -rs

# Other people's viewers, in an environment of their own on top of the product's and the tests'.
$(VENV)-viewers/installed: tests/viewers/requirements.txt $(VENV)/installed-test
	$(BIN)/python -m venv --clear $(VENV)-viewers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(VENV)-viewers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/product.pth"
	$(VENV)-viewers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/viewers/requirements.txt
	@touch $@

tests/viewers/node_modules/.package-lock.json: tests/viewers/package-lock.json
	npm ci --prefix tests/viewers --ignore-scripts --no-audit --no-fund
	@touch $@

test-viewers: $(VENV)-viewers/installed tests/viewers/node_modules/.package-lock.json $(VIEWER)  ## The results in napari-ome-zarr and Viv (pip and npm fetch them)
	$(VENV)-viewers/bin/python -m pytest tests/workflow/test_viewers.py -rs

explain: $(VENV)/installed  ## Why each job would run: make explain ARGS="--profile profiles/local --configfile mine.yaml"
	@$(BIN)/python workflow/explain.py $(ARGS)

init: $(VENV)/installed  ## A first configuration and tables for a folder of slides: make init FOLDER=/data/slides
	@$(BIN)/python workflow/init.py "$(FOLDER)" $(if $(NAME),--name "$(NAME)")

status: $(VENV)/installed  ## Where a run stands, while it runs: make status ARGS="--configfile mine.yaml"
	@$(BIN)/python workflow/status.py $(ARGS)

$(VIEWER): viewer/package-lock.json
	@command -v npm >/dev/null || { echo "make view needs npm, which fetches OpenSeadragon"; exit 1; }
	npm ci --prefix viewer --ignore-scripts --no-audit --no-fund
	@touch $@

view: $(VENV)/installed $(VIEWER)  ## A slide's result in the browser: make view SLIDE=hela ARGS="--configfile mine.yaml"
	@$(BIN)/python workflow/view.py "$(SLIDE)" $(ARGS)

stages: $(VENV)/installed  ## All stages in turn: one that makes the same again ends there (ARGS as above)
	$(BIN)/python workflow/in_turn.py $(ARGS)

verify: $(VENV)/installed  ## Check all results against their checksums (RESULTS=results ARGS=--repair)
	@$(BIN)/python workflow/verify.py $(filter --repair,$(ARGS)) $(or $(RESULTS),results)

export: $(VENV)/installed-export  ## A network as a bioimage.io package (MODEL=main RESULTS=results ARGS as above)
	$(BIN)/snakemake $(or $(RESULTS),results)/export/$(or $(MODEL),main).json $(ARGS)
	@echo "package: $(or $(RESULTS),results)/export/$(or $(MODEL),main).zip"

crate: $(VENV)/installed-export  ## A finished run described as an RO-Crate (RESULTS=results ARGS as above)
	$(BIN)/snakemake $(or $(RESULTS),results)/crate.json $(ARGS)
	@echo "crate: $(or $(RESULTS),results)/ro-crate-metadata.json"

# Programs that ours are measured against: an environment of their own, which takes all other
# packages from the product's.
$(VENV)-peers/installed: tests/bench/peers.txt $(VENV)/installed
	$(BIN)/python -m venv --clear $(VENV)-peers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(VENV)-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/product.pth"
	$(VENV)-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/bench/peers.txt
	@touch $@

bench: $(VENV)-peers/installed  ## Every stage beside its peers and the machine's limit, in one table
	$(BIN)/python tests/bench/bench.py --peer-python $(VENV)-peers/bin/python $(BENCH)

bench-scaling: $(VENV)/installed  ## How time grows with pixels, cells, slides: fitted exponents
	$(BIN)/python tests/bench/bench_scaling.py $(BENCH)

bench-objects: $(VENV)-peers/installed  ## Speed and memory of labelling, measuring, outlining, beside other programs
	$(BIN)/python tests/bench/bench_objects.py --peer-python $(VENV)-peers/bin/python $(BENCH)

bench-inference: $(VENV)-peers/installed  ## Inference beside sliding windows of others: speed, seams, memory
	$(BIN)/python tests/bench/bench_inference.py --peer-python $(VENV)-peers/bin/python $(BENCH)

bench-slides: $(VENV)/installed-test  ## A gigapixel JPEG slide and a real one through Snakemake to valid OME-Zarr
	$(BIN)/python tests/bench/bench_slides.py $(BENCH)

bench-gpu: $(VENV)/installed  ## Inference on a GPU: latency, share of its matrix rate, how busy it is
	$(BIN)/python tests/bench/bench_gpu.py $(BENCH)

bench-sliding: $(VENV)/installed  ## One pixel per patch beside the fully convolutional network
	$(BIN)/python tests/bench/bench_sliding.py $(BENCH)

bench-report: $(VENV)/installed  ## The morning report of 1,000 slides: size, time to write and to open it
	$(BIN)/python tests/bench/bench_report.py $(BENCH)

bench-dag: $(VENV)/installed  ## CPU time and memory of planning 100, 1,000 and 10,000 slides
	$(BIN)/python tests/bench/bench_dag.py

lint: $(VENV)/installed-test  ## ruff, snakefmt, snakemake --lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

format: $(VENV)/installed-test  ## Format Python and Snakemake files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

# The site's tools have an environment of their own: the product needs none of them.
$(VENV)-docs/installed: envs/requirements-docs.txt
	$(PYTHON) -m venv --clear $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -r envs/requirements-docs.txt
	@touch $@

docs: $(VENV)-docs/installed  ## The docs as a site in site/, links checked
	$(VENV)-docs/bin/mkdocs build --strict --quiet

reference:  ## Write docs/config.md, docs/columns.md and the README's graph anew
	$(BIN)/python docs/config_reference.py
	$(BIN)/python docs/columns_reference.py
	$(BIN)/python docs/rule_graph.py

lock:  ## Write the exact versions of envs/*.in, installed afresh together, to envs/*.txt
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet -r envs/requirements.in -r envs/requirements-test.in -r envs/requirements-export.in
	$(VENV)-lock/bin/python envs/freeze.py envs/requirements.in envs/requirements.txt
	$(VENV)-lock/bin/python envs/freeze.py envs/requirements-test.in envs/requirements-test.txt envs/requirements.txt
	$(VENV)-lock/bin/python envs/freeze.py envs/requirements-export.in envs/requirements-export.txt envs/requirements.txt
	$(PYTHON) envs/conda_environment.py
	$(PYTHON) -m venv --clear $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet -r envs/requirements-docs.in packaging
	$(VENV)-lock/bin/python envs/freeze.py envs/requirements-docs.in envs/requirements-docs.txt
	rm -rf $(VENV)-lock

clean:  ## Remove what the demo made, keep the environment
	rm -rf results .snakemake
