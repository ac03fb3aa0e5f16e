# Set up, check, demonstrate. Everything is installed into .venv; nothing outside this folder is touched.

# Any Python from 3.11 on: make test PYTHON=python3.12
PYTHON ?= python3

# torch is installed by name and version alone, because its build (CPU, CUDA, ROCm) is the machine's choice; everything
# else comes from constraints/requirements.txt, where every file has its hash. To choose a build, append pip's options:
# make test TORCH_INSTALL="torch==2.13.0 --index-url ADDRESS-OF-PYTORCH'S-CPU-INDEX"
TORCH_INSTALL ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := constraints/requirements.txt
DOCS_LOCK := constraints/docs.txt
AUDIT_LOCK := constraints/audit.txt
CONTAINER_LOCK := constraints/container.txt

.DEFAULT_GOAL := help
.PHONY: help setup test lint typecheck layers unit test-heavy viewer viewer-check page page-check docs demo reproduce-mini sbom audit dist release-check lower-bounds container guard licences lock lock-docs lock-audit lock-container clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## make .venv with every dependency and thinslice itself, editable

# 1. torch alone; 2. the complete closed list, hash by hash, with no resolving; 3. torch once more, now with its
# dependencies: nothing to do for a CPU build, the vendor's libraries for a GPU build.
$(VENV)/.locked: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "thinslice needs Python 3.11 or later: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --no-deps $(TORCH_INSTALL)
	$(PIP) install --quiet --no-deps --require-hashes -r $(LOCK)
	$(PIP) install --quiet $(TORCH_INSTALL)
	@touch $@

# hatchling is in the list, so the build needs no environment of its own and fetches nothing.
$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) check
	@touch $@

test: lint typecheck layers unit ## set up, then lint, types, layers and tests

lint: setup ## ruff: style and likely mistakes, and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

typecheck: setup ## mypy, strict
	$(BIN)/mypy

layers: setup ## import-linter: who may import whom
	$(BIN)/lint-imports --no-logo

# Workers of pytest: one a core, eight at most, since each takes about 1 GiB. make unit WORKERS=0 is one process.
WORKERS ?= auto

unit: setup ## pytest in parallel, without the tests marked heavy
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

# One process: several of them measure time or memory.
test-heavy: setup ## pytest, the tests marked heavy alone: minutes each
	$(BIN)/python -m pytest -m heavy --durations 0

# Node 20 or later. The bundle is committed, so that nobody needs Node to install thinslice; tests/pictures/viewer compares
# it with its sources by their digests, without Node.
viewer/node_modules/.installed: viewer/package-lock.json
	cd viewer && npm ci --no-audit --no-fund
	@touch $@

viewer: viewer/node_modules/.installed ## bundle viewer/ into src/thinslice/pictures/viewer/viewer.js (needs Node)
	cd viewer && npm run --silent build

viewer-check: viewer/node_modules/.installed ## lint, types and tests of viewer/, and whether its bundle is current (needs Node)
	cd viewer && npm run --silent check

page/node_modules/.installed: page/package-lock.json
	cd page && npm ci --no-audit --no-fund
	@touch $@

# The networks first: the page runs what `thinslice models export` writes. Nothing of it is committed.
PAGE_NETWORKS := fast default

page: setup page/node_modules/.installed ## build page/: one HTML file that upscales in the browser, and a folder for a web server (needs Node)
	mkdir -p page/build
	for name in $(PAGE_NETWORKS); do \
		$(BIN)/thinslice models export $$name page/build/$$name.onnx --all-inputs --overwrite || exit; done
	$(BIN)/thinslice models export default page/build/default-uncertainty.onnx --uncertainty --all-inputs --overwrite
	cd page && npm run --silent build

page-check: page/node_modules/.installed ## lint, types and tests of page/ (needs Node)
	cd page && npm run --silent check

$(VENV)/.docs: $(DOCS_LOCK) $(VENV)/.installed
	$(PIP) install --quiet --no-deps --require-hashes -r $(DOCS_LOCK)
	@touch $@

# Strict: a broken link, a picture or page that is missing, or a name that mkdocstrings cannot find ends the build.
docs: $(VENV)/.docs ## build the documentation site into site/
	$(BIN)/python tools/generate_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

demo: setup ## upscale a synthetic chest, or your own: make demo INPUT=path [OUT=folder]
	$(BIN)/thinslice demo --overwrite $(if $(INPUT),"$(INPUT)") $(if $(OUT),--out "$(OUT)")

# The paper in small, on real thin chest CT: a data set in the released layout (thick slices made with a scanner-like
# profile and noise), every network trained a little, every table and figure, the domain gap. What is finished is kept:
# give the same command again after an interruption. In a folder of your own, one volume each is chosen for validation
# and test; MINI_SPLITS="--val 'a*' --test 'b*'" chooses.
CT ?= $(if $(THINSLICE_SHARED),$(THINSLICE_SHARED),../shared)/ct
MINI ?= mini-reproduction
MINI_SPLITS ?= $(if $(wildcard $(CT)/train/lidc*),--train 'train/lidc*' --val 'train/lungfcp*' --test 'dev/*')

reproduce-mini: setup ## the paper's tables and figures in small: make reproduce-mini [CT=folder of thin chests]
	@test -d "$(CT)" || { echo "No folder $(CT): give one with thin chest CT (NIfTI, three patients or more)," \
		"make reproduce-mini CT=folder" >&2; exit 2; }
	mkdir -p $(MINI)/data
	test -d $(MINI)/data/mini || $(BIN)/thinslice dataset mini "$(CT)" $(MINI)/data/mini $(MINI_SPLITS) \
		--cases 40 2 10 --size 96 96 --thick-depth 7 --profile trapezoid --noise 8
	$(BIN)/thinslice dataset verify $(MINI)/data/mini
	$(BIN)/thinslice dataset analyse $(MINI)/data/mini --out $(MINI)/analysis --overwrite
	$(BIN)/thinslice benchmark suites/mini.toml --data $(MINI)/data --out $(MINI)/benchmark \
		--leaderboard $(MINI)/leaderboard.json
	@# Two reconstructions of one acquisition, where the folder has them: the domain gap's second table.
	@if test -d "$(CT)/pair" && ! test -f $(MINI)/data/pair/manifest.csv; then mkdir -p $(MINI)/data/pair && \
		printf 'thick,thin,split,case\n%s,%s,test,pair\n' "$$(realpath "$(CT)"/pair/*thick*)" \
		"$$(realpath "$(CT)"/pair/*thin*)" > $(MINI)/data/pair/manifest.csv; fi
	$(BIN)/thinslice benchmark suites/mini-domain-gap.toml --data $(MINI)/data --out $(MINI)/domain-gap
	@echo "Reports: $(MINI)/benchmark/report.html, $(MINI)/domain-gap/report.html, $(MINI)/analysis"

# The tools have dependencies of their own, which must not meet those of the package: an environment beside it.
AUDIT := .venv-audit

$(AUDIT)/.installed: $(AUDIT_LOCK)
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r $(AUDIT_LOCK)
	@touch $@

sbom: setup $(AUDIT)/.installed ## write sbom.json: every installed package, its version and licence (CycloneDX)
	$(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file sbom.json $(BIN)/python
	@echo "sbom.json written"

# Reads the lists, installs nothing. --strict: a package that the service does not know ends the audit, so that an index
# without vulnerabilities, such as a mirror, is not taken for a clean result. torch has no hash in any list of ours.
PIP_AUDIT = $(AUDIT)/bin/pip-audit --strict --disable-pip --progress-spinner off

audit: $(AUDIT)/.installed ## compare the pinned packages with the public lists of vulnerabilities
	echo "$(firstword $(TORCH_INSTALL))" > $(AUDIT)/torch.txt
	@{ $(PIP_AUDIT) --require-hashes -r $(LOCK) -r $(DOCS_LOCK) && $(PIP_AUDIT) --no-deps -r $(AUDIT)/torch.txt; } \
		|| { echo "make audit: a vulnerability was found (see the table), or the service could not be asked for every" \
		"package (see the last line: then nothing is known)." >&2; exit 1; }

# The time of the commit stands in the archives, so that anybody gets the same bytes from the same commit.
dist: setup ## build wheel and sdist into dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -c 'from hatchling.build import build_sdist, build_wheel; \
		print("dist/" + build_wheel("dist")); print("dist/" + build_sdist("dist"))'
	cd dist && sha256sum * > SHA256SUMS

release-check: setup ## on the tagged commit: one version everywhere, a dated section of the changelog, intact weights
	$(BIN)/python tools/check_release.py

# The lowest versions that pyproject.toml permits, with the torch of this Makefile, in an environment of their own.
LOWEST := .venv-lowest

$(LOWEST)/.installed: constraints/lower-bounds.txt pyproject.toml
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip --disable-pip-version-check install --quiet --constraint $< $(TORCH_INSTALL) pytest hypothesis PyYAML '.[torch]'
	@touch $@

lower-bounds: $(LOWEST)/.installed ## a core of the tests with the lowest permitted version of every dependency
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider --no-header $(LOWEST_TESTS)

LOWEST_TESTS := tests/test_geometry.py tests/test_volume.py tests/planning tests/io/test_nifti.py tests/cli/test_inspect.py tests/cli/test_upscale.py

# buildah or another program that builds a Containerfile; of its options: make container CONTAINER_OPTIONS="--build-arg ..."
CONTAINER_BUILD ?= buildah build

container: ## build the Containerfile as the image "thinslice": docs/how-to/run-in-a-container.md
	$(CONTAINER_BUILD) --build-arg TORCH_INSTALL="$(TORCH_INSTALL)" $(CONTAINER_OPTIONS) --file Containerfile --tag thinslice .

# Which weights may be embedded: docs/explanation/clinical-checks.md, The guard.
guard: setup ## judge the embedded networks by the phantom's nodules; minutes
	$(BIN)/thinslice models check $(patsubst src/thinslice/models/weights/%.safetensors,%,$(wildcard src/thinslice/models/weights/*.safetensors)) --guard

licences: setup ## write docs/reference/dependencies.md again; fails on a licence that is viral or unknown
	$(BIN)/python tools/list_dependencies.py

# Keeps the versions already in the list; make lock UPGRADE=--upgrade takes the newest. Run it where pip finds a CPU
# build of torch: the libraries of a GPU build belong to the machine, not into this list.
lock: setup ## write constraints/requirements.txt again after a change of dependencies
	echo "$(firstword $(TORCH_INSTALL))" > $(VENV)/torch.txt
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile $(UPGRADE) --quiet --generate-hashes --strip-extras \
		--extra dev --build-deps-for editable --constraint $(VENV)/torch.txt --unsafe-package torch \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-annotate \
		--output-file $(LOCK) pyproject.toml
	@sed '/^# WARNING/,$$d' $(LOCK) > $(VENV)/lock.txt && cp $(VENV)/lock.txt $(LOCK)
	@! grep -E '^(nvidia|cuda|triton|torch(vision|audio)?==)' $(LOCK) \
		|| { echo "$(LOCK) holds parts of a GPU build of torch; see the comment above this target." >&2; exit 1; }

# Bounded by the list of `make lock`, because both are installed side by side: run it after `make lock`.
lock-docs: setup ## write constraints/docs.txt again after a change of the docs extra
	$(BIN)/python -c 'import tomllib; \
		print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"]))' > $(VENV)/docs.in
	CUSTOM_COMPILE_COMMAND="make lock-docs" $(BIN)/pip-compile $(UPGRADE) --quiet --generate-hashes --strip-extras \
		--constraint $(LOCK) --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-annotate \
		--output-file $(DOCS_LOCK) $(VENV)/docs.in

# The subset of the list of `make lock` that the Containerfile installs: run it after `make lock`.
lock-container: setup ## write constraints/container.txt again after a change of dependencies
	echo "$(firstword $(TORCH_INSTALL))" > $(VENV)/torch.txt
	CUSTOM_COMPILE_COMMAND="make lock-container" $(BIN)/pip-compile --quiet --generate-hashes --strip-extras \
		--extra torch --extra itk --extra openvino --extra serve --extra node --build-deps-for wheel \
		--constraint $(LOCK) --constraint $(VENV)/torch.txt --unsafe-package torch \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-annotate \
		--output-file $(CONTAINER_LOCK) pyproject.toml
	@sed '/^# WARNING/,$$d' $(CONTAINER_LOCK) > $(VENV)/lock.txt && cp $(VENV)/lock.txt $(CONTAINER_LOCK)

lock-audit: setup ## write constraints/audit.txt again: the tools of make sbom and make audit
	printf 'cyclonedx-bom\npip-audit\n' > $(VENV)/audit.in
	CUSTOM_COMPILE_COMMAND="make lock-audit" $(BIN)/pip-compile $(UPGRADE) --quiet --generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --no-annotate \
		--output-file $(AUDIT_LOCK) $(VENV)/audit.in

clean: ## remove .venv, caches and what demo and reproduce-mini made
	rm -rf $(VENV) $(AUDIT) $(LOWEST) viewer/node_modules page/node_modules page/build page/dist sbom.json .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist site demo-output mini-reproduction
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
