# Every target sets up what it needs: Python >= 3.11 and make are enough to begin with.
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-slow-all interop interop-all test-postgres judge-rgw judge-browser test-ray install postgres rgw browser \
	check format bench bench-runtime judges lock clean

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	command -v $$python >/dev/null && $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)
BIN := .venv/bin
READY := .venv/ready
POSTGRES_BIN := $$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)
JAVA_PACKAGES := default-jdk-headless maven
RGW_PACKAGES := radosgw ceph-mon ceph-osd ceph-mgr ceph-common
POSTGRES_PACKAGES := postgresql
BROWSER_PACKAGES := chromium chromium-driver
SLOW := slow and not (ray or interop or rgw or postgres or browser)
# What is slow is slower yet on a busy machine.
PATIENT := --timeout=600
# A list that cannot be fetched may be one that is not needed: installing tells.
APT_INSTALL := apt-get update --quiet=2; DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes \
	--no-install-recommends -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300
HUDI_SPARK := org.apache.hudi:hudi-spark3.5-bundle_2.12:1.2.0
ICEBERG_SPARK := org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.11.0
ICEBERG_AWS := org.apache.iceberg:iceberg-aws-bundle:1.11.0
NESSIE := org.projectnessie.nessie:nessie-quarkus:0.99.0:jar:runner

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## make a fragmented table, compact it, prove that no row changed
	@rm -rf compact-demo
	$(BIN)/compact demo compact-demo

test: $(READY) ## the quick test suite
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not (slow or interop or ray or rgw or browser or postgres)"

test-slow: $(READY) judges ## long races, thousands of files, crashes upon crashes
	$(BIN)/pytest $(PATIENT) --numprocesses auto --dist worksteal -m "$(SLOW) and not thorough"

test-slow-all: $(READY) judges ## the same everywhere in turn, and for longer: half an hour
	COMPACT_SERVICE_SECONDS=300 COMPACT_STREAM_SECONDS=180 $(BIN)/pytest $(PATIENT) --numprocesses auto --dist worksteal -m "$(SLOW)"

interop: $(READY) judges postgres ## every other engine on our tables and we on theirs: Spark, DuckDB, Polars, deltalake
	COMPACT_REQUIRE_POSTGRES=1 $(BIN)/pytest $(PATIENT) --numprocesses auto --maxprocesses 3 --dist worksteal -m "interop and not thorough"

interop-all: $(READY) judges postgres ## the same on every table and catalog in turn: an hour
	COMPACT_REQUIRE_POSTGRES=1 $(BIN)/pytest $(PATIENT) --numprocesses auto --maxprocesses 3 --dist worksteal -m interop

test-postgres: $(READY) postgres ## the job store on a PostgreSQL server; as root it installs the package
	COMPACT_REQUIRE_POSTGRES=1 $(BIN)/pytest $(PATIENT) --numprocesses auto --maxprocesses 4 --dist worksteal -m "postgres and not interop"

judge-rgw: $(READY) rgw ## copying inside the store, judged by a Ceph RGW; as root it installs the packages
	COMPACT_REQUIRE_RGW=1 $(BIN)/pytest $(PATIENT) -m rgw

judge-browser: $(READY) browser ## the pages of the service in a headless Chromium; as root it installs the package
	COMPACT_REQUIRE_BROWSER=1 $(BIN)/pytest $(PATIENT) -m browser

install: $(READY) .venv-ray/ready judges postgres rgw browser ## all that the targets above need; as root it installs the packages

postgres:
	@test -n "$(POSTGRES_BIN)" || { \
		$(APT_INSTALL) $(POSTGRES_PACKAGES) >/dev/null; \
	} || { echo "error: PostgreSQL cannot be installed; as root: apt-get install $(POSTGRES_PACKAGES)" >&2; exit 1; }

rgw:
	@(for program in radosgw ceph-mon ceph-osd ceph-mgr ceph; do command -v $$program >/dev/null || exit 1; done) || { \
		$(APT_INSTALL) $(RGW_PACKAGES) >/dev/null; \
	} || { echo "error: Ceph cannot be installed; as root: apt-get install $(RGW_PACKAGES)" >&2; exit 1; }

browser:
	@(for program in chromium chromedriver; do command -v $$program >/dev/null || exit 1; done) || { \
		$(APT_INSTALL) $(BROWSER_PACKAGES) >/dev/null; \
	} || { echo "error: Chromium cannot be installed; as root: apt-get install $(BROWSER_PACKAGES)" >&2; exit 1; }

test-ray: .venv-ray/ready ## the Ray backend on real clusters, in an environment of its own
	.venv-ray/bin/pytest $(PATIENT) -m ray

.venv-ray/ready: requirements-ray.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-ray.lock
	.venv-ray/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

check: $(READY) ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_architecture.py

format: $(READY) ## apply the style
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

bench: $(READY) ## run every benchmark case against its peers; results in benchmarks/results
	$(BIN)/python -m benchmarks

bench-runtime: .venv-peers/ready ## run the runtime against Ray, dask and process pools; results in benchmarks/results
	.venv-peers/bin/python -m benchmarks.runtime

.venv-peers/ready: requirements-peers.lock
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-peers.lock
	@touch $@

judges: .venv-judges/ready .venv-judges-hudi/ready ## install the engines that judge what we write; as root it installs a JDK and Maven

.venv-judges/ready: requirements-judges.lock tests/judges/rest_catalog.xml tests/judges/delta_spark.xml tests/judges/hive_metastore.xml
	@(for program in java javac mvn; do command -v $$program >/dev/null || exit 1; done) || { \
		$(APT_INSTALL) $(JAVA_PACKAGES) >/dev/null; \
	} || { echo "error: the judges need a JDK (17 or 21) and Maven; as root: apt-get install $(JAVA_PACKAGES)" >&2; exit 1; }
	$(PYTHON) -m venv .venv-judges
	.venv-judges/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-judges.lock
	mvn --quiet --batch-mode dependency:copy -Dartifact=$(ICEBERG_SPARK) -DoutputDirectory=$(CURDIR)/.venv-judges/jars
	mvn --quiet --batch-mode dependency:copy -Dartifact=$(ICEBERG_AWS) -DoutputDirectory=$(CURDIR)/.venv-judges/jars
	mvn --quiet --batch-mode dependency:copy -Dartifact=$(NESSIE) -DoutputDirectory=$(CURDIR)/.venv-judges/nessie
	mvn --quiet --batch-mode --file tests/judges/hive_metastore.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.venv-judges/hive
	mvn --quiet --batch-mode --file tests/judges/rest_catalog.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.venv-judges/rest-catalog
	mvn --quiet --batch-mode --file tests/judges/delta_spark.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DincludeGroupIds=io.delta,io.unitycatalog -DoutputDirectory=$(CURDIR)/.venv-judges/delta
	@touch $@

.venv-judges-hudi/ready: requirements-judges-hudi.lock tests/judges/hudi_s3.xml .venv-judges/ready
	$(PYTHON) -m venv .venv-judges-hudi
	.venv-judges-hudi/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements-judges-hudi.lock
	mvn --quiet --batch-mode dependency:copy -Dartifact=$(HUDI_SPARK) -DoutputDirectory=$(CURDIR)/.venv-judges-hudi/hudi
	mvn --quiet --batch-mode --file tests/judges/hudi_s3.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory=$(CURDIR)/.venv-judges-hudi/s3
	@touch $@

lock: $(READY) ## resolve the requirements anew, with hashes
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --extra dev --extra bench pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate requirements-judges.in --output-file requirements-judges.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate requirements-judges-hudi.in --output-file requirements-judges-hudi.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --constraint requirements.lock --extra dev --extra ray pyproject.toml \
		--output-file requirements-ray.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --constraint requirements.lock --constraint requirements-ray.lock \
		--extra peers pyproject.toml --output-file requirements-peers.lock

clean: ## remove what the other targets made
	rm -rf .venv .venv-judges .venv-judges-hudi .venv-peers .venv-ray compact-demo dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
