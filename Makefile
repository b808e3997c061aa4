# make pipeline   four roles, end to end, on IMAGES; make test   all tests; make check   tests and linters
# make bench      the table of speeds and sizes; BENCH='--only help search' for some of it, --help for more
# make fuzz       atheris on whatever reads bytes of another party; FUZZ='upload query --minutes 5'
#
# The pipeline is the graph below: every file that one role hands to another is a target.

SCHEME  ?= dcr
BITS    ?= 3072
IMAGES  ?= sample_data/owners
QUERIES ?= sample_data/queries
OUT     ?= out/$(SCHEME)
FUZZ    ?= all --minutes 20
PYTHON  ?= python3

VENV   := .venv
MIPP   := $(VENV)/bin/mipp
OWNERS := $(notdir $(wildcard $(IMAGES)/*))
# schemes mask and exact have no modulus; a small one is only for trying things out
MODULUS := $(if $(filter mask exact,$(SCHEME)),,--modulus-bits $(BITS) $(if $(filter 768 1024 1536,$(BITS)),--allow-insecure-modulus))

# "already applied": so a pipeline that was interrupted just before it noted a step goes on
OR_APPLIED := || [ $$? -eq 5 ]

ENROLMENTS := $(OWNERS:%=$(OUT)/owners/%/enrolment.h5)
MEMBERS    := $(OWNERS:%=$(OUT)/owners/%/members.h5)
UPLOADS    := $(OWNERS:%=$(OUT)/uploads/%.h5)

.PHONY: pipeline test check lint bench fuzz clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

pipeline: $(OUT)/matches/matches.csv
	@cat $(OUT)/matches.txt
	@echo "contact sheet: $(OUT)/matches/contact-sheet.png"

# The key management centre draws the deployment; everybody else needs kmc.pub.
$(OUT)/kmc/kmc.pub: $(OUT)/settings | $(VENV)/installed
	rm -rf $(OUT)/kmc
	$(MIPP) kmc init $(OUT)/kmc --scheme $(SCHEME) $(MODULUS)

$(OUT)/cloud/cloud.pub: $(OUT)/kmc/kmc.pub
	rm -rf $(OUT)/cloud
	$(MIPP) cloud init $(OUT)/cloud --kmc $<

$(OUT)/doctor/user.pub: $(OUT)/kmc/kmc.pub
	rm -rf $(OUT)/doctor
	$(MIPP) user init $(OUT)/doctor --id doctor --kmc $<

# Each owner authorises the doctor, and says so to the KMC (enrolment.h5) and to the cloud (members.h5).
$(OUT)/owners/%/enrolment.h5 $(OUT)/owners/%/members.h5 &: $(OUT)/kmc/kmc.pub $(OUT)/doctor/user.pub
	@mkdir -p $(OUT)/owners
	rm -rf $(OUT)/owners/$*
	$(MIPP) owner init $(OUT)/owners/$* --id $* --kmc $< --authorize $(OUT)/doctor/user.pub

$(OUT)/kmc/enrolled: $(ENROLMENTS) $(OUT)/cloud/cloud.pub
	$(MIPP) kmc enroll $(OUT)/kmc $^ $(OR_APPLIED)
	@touch $@

$(OUT)/cloud/enrolled: $(MEMBERS) $(OUT)/cloud/cloud.pub
	$(MIPP) cloud enroll $(OUT)/cloud $(MEMBERS) $(OR_APPLIED)
	@touch $@

# Owners encrypt images and features; the cloud verifies and indexes them.
$(OUT)/uploads/%.h5: $(OUT)/owners/%/enrolment.h5
	@mkdir -p $(OUT)/uploads
	$(MIPP) owner encrypt $(OUT)/owners/$* $(IMAGES)/$* -o $@ --force

$(OUT)/cloud/indexed: $(UPLOADS) $(OUT)/cloud/enrolled
	$(MIPP) cloud index $(OUT)/cloud $(UPLOADS) $(OR_APPLIED)
	@touch $@

# The doctor asks; the cloud finds; the KMC re-encrypts for the doctor; the doctor decrypts and ranks.
$(OUT)/query.h5: $(OUT)/doctor/user.pub $(wildcard $(QUERIES)/*)
	$(MIPP) user query $(OUT)/doctor $(QUERIES) -o $@ --force

ifeq ($(SCHEME),exact)
# Under scheme exact the KMC ranks: the cloud hands it features, and then the images that it selected.
$(OUT)/candidates.h5: $(OUT)/query.h5 $(OUT)/cloud/indexed
	$(MIPP) cloud search $(OUT)/cloud $< -o $@ --force

$(OUT)/selection.h5: $(OUT)/candidates.h5 $(OUT)/kmc/enrolled
	$(MIPP) kmc rank $(OUT)/kmc $< -o $@ --force

$(OUT)/results.h5: $(OUT)/selection.h5
	$(MIPP) cloud collect $(OUT)/cloud $< -o $@ --force
else
$(OUT)/results.h5: $(OUT)/query.h5 $(OUT)/cloud/indexed
	$(MIPP) cloud search $(OUT)/cloud $< -o $@ --force
endif

$(OUT)/reencrypted.h5: $(OUT)/results.h5 $(OUT)/kmc/enrolled
	$(MIPP) kmc reencrypt $(OUT)/kmc $< -o $@ --force

$(OUT)/matches/matches.csv: $(OUT)/reencrypted.h5
	$(MIPP) user decrypt $(OUT)/doctor $< -o $(OUT)/matches --force > $(OUT)/matches.txt

# Other settings or other pictures make a new deployment: what the cloud has indexed it does not take twice.
$(OUT)/settings: FORCE
	@$(if $(OWNERS),,echo "IMAGES=$(IMAGES) has no folders, one for each owner" >&2; exit 2)
	@mkdir -p $(OUT)
	@now="$(SCHEME) $(BITS) $(IMAGES) $$(ls -lR $(IMAGES) | cksum)"; \
	  [ "$$(cat $@ 2>/dev/null)" = "$$now" ] || echo "$$now" > $@

FORCE:

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mipp needs Python 3.11 or newer; give PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-bench: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-fuzz: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	@touch $@ $(VENV)/installed $(VENV)/installed-dev

test: $(VENV)/installed-dev
	$(VENV)/bin/pytest

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

check: lint test

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m tests.benchmark $(BENCH)

fuzz: $(VENV)/installed-fuzz
	$(VENV)/bin/python -m tests.fuzz $(FUZZ)

clean:
	rm -rf out $(VENV)
