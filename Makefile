# make demo     the offline demo, from nothing to results/report/index.html
# make test     the tests; make test-thorough  the same over all families, methods and variants, which takes much longer
# make site     the documentation as a site, in site/; warnings are errors
# make lint     style, types, dead code, citations and stray files, in less than a minute; see CONTRIBUTING.md
#
# These call the subcommands of `aftershock`, whose options go into ARGS; docs/command.md describes them:
#   make run CONFIG=resources/studies/NAME.yaml     (or several files, the last wins; PROFILE=slurm or workstation)
#   make resume, status, why, plan, queries, datasets, validate, convert, manifest, verify, export, list, add-model
#
# make slurm-test  a small study and faults on a SLURM cluster of the tests' own: needs slurmctld slurmd munge, and for the
#               faults slurmdbd mariadb as well; PYTEST_ARGS="-m cluster" is the study alone
# make check-method  a method of your own against the contract: make check-method METHOD=path/to/mine.py
# make golden   recorded editing cases:     make golden DIR=FOLDER
# make bench    engine against plain path:  make bench ARGS='--models tiny --methods rome,score-5 --quick'
# make gpu-check  is a GPU's arithmetic right, how fast is it: nine minutes (ARGS='--device cpu --quick' tries the program)
#
# The environment in .venv is made first where it is missing or out of date. PIP_ARGS goes to pip, CORES and ARGS to
# `aftershock` or to the benchmark (`benchmarks/bench.py --help` lists its options), PYTEST_ARGS to pytest.

PYTHON ?= python3
VENV := .venv
CORES ?= 2

PIP = $(VENV)/bin/python -m pip install --no-compile $(PIP_ARGS) -c constraints.txt
AFTERSHOCK = @PYTHONPATH=workflow $(VENV)/bin/python -m aftershock
PLACE = $(if $(PROFILE),--profile $(PROFILE),--cores $(CORES))

.PHONY: site demo run datasets verify resume status why plan queries validate convert manifest export list add-model test test-thorough slurm-test check-method golden bench gpu-check lint environment

demo run datasets verify: environment
	$(AFTERSHOCK) $@ $(CONFIG) $(PLACE) $(ARGS)

resume status why plan queries validate convert manifest export list add-model: environment
	$(AFTERSHOCK) $@ $(CONFIG) $(ARGS)

# Empty: what Python compiles is kept, or each of the many processes that tests start would compile it again.
test test-thorough slurm-test: export PYTHONDONTWRITEBYTECODE =

test: environment
	$(VENV)/bin/python -m pytest -n $(CORES) $(PYTEST_ARGS)

test-thorough: environment
	$(VENV)/bin/python -m pytest -n $(CORES) -m "not lint and not slow and not slurm and not cluster and not real" $(PYTEST_ARGS)

slurm-test: environment
	$(VENV)/bin/python -m pytest -m "cluster or slurm" $(PYTEST_ARGS) tests/slurm

check-method: environment
	@test -n "$(METHOD)" || { echo "make check-method needs a method: make check-method METHOD=path/to/mine.py" >&2; exit 1; }
	AFTERSHOCK_METHOD="$(abspath $(METHOD))" $(VENV)/bin/python -m pytest -q $(PYTEST_ARGS) tests/test_contract.py

golden: environment
	@test -n "$(DIR)" || { echo "make golden needs a folder of recorded cases: make golden DIR=FOLDER" >&2; exit 1; }
	PYTHONPATH=workflow $(VENV)/bin/python tests/golden.py $(DIR)

bench: environment
	$(VENV)/bin/python benchmarks/bench.py $(ARGS)

gpu-check: environment
	$(VENV)/bin/python benchmarks/gpu_check.py $(ARGS)

site: environment
	PYTHONPATH=workflow NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

TRACKED = git ls-files -z --
WITHOUT_RECORDS = ':!tests/faults' ':!*.svg'

lint: environment
	@git rev-parse --git-dir >/dev/null # which knows the files to look at
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check Snakefile workflow/rules
	$(VENV)/bin/snakemake --lint
	@stray=$$(git ls-files --cached --ignored --exclude-standard); test -z "$$stray" || { \
	    echo "Under version control in spite of .gitignore; git rm --cached them:" $$stray >&2; exit 1; }
	$(TRACKED) | xargs -0 $(VENV)/bin/check-merge-conflict --assume-in-merge
	$(TRACKED) | xargs -0 $(VENV)/bin/check-added-large-files --enforce-all --maxkb 200
	$(TRACKED) $(WITHOUT_RECORDS) | xargs -0 $(VENV)/bin/end-of-file-fixer
	$(TRACKED) $(WITHOUT_RECORDS) | xargs -0 $(VENV)/bin/trailing-whitespace-fixer
	$(TRACKED) '*.yaml' '*.yml' '*.cff' | xargs -0 $(VENV)/bin/yamllint --strict
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -q -p no:cacheprovider -m lint tests/test_docs.py tests/test_dead_code.py

ifdef AFTERSHOCK_IMAGE # in a container of containers/, whose environment stays as it is
VENV := $(AFTERSHOCK_IMAGE)/.venv
environment:
	@cmp -s constraints.txt $(AFTERSHOCK_IMAGE)/constraints.txt || { \
	    echo "This container was built with other versions than constraints.txt names; build it again." >&2; exit 1; }
else
environment: $(VENV)/.installed
endif

# Written last, so that an installation cut short is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Aftershock needs Python 3.11 or later; $(PYTHON) is `$(PYTHON) --version 2>&1`." >&2; \
	    echo "Name another one: make PYTHON=python3.11 ..." >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) pip
	$(PIP) --group dev
	@$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true # on all cores; templates are no programs
	test ! -d workflow || $(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
