# make pipeline     run all four roles on IMAGES, in schemes exact and dcr (SCHEME=exact: only one). Run it again
#                   to process new images. For DICOM: EXTRAS=dicom, and PAYLOAD=pixels or PAYLOAD=file.
#                   SKIP_UNREADABLE=1 leaves out images that cannot be read
# make fresh        remove the pipeline's folders in OUT, with all keys; no other target does
# make test         run the tests, except slow ones; make check: linters and all tests
# make test-lowest  run some tests with the lowest versions; make test-pythons: with every other Python installed
# make docs         generate the page of commands
# make bench        measure the table of speeds and sizes; BENCH='--only help search' for a part, --help for more
# make release      build sdist and wheel in dist/, check them, and try them in an empty environment
# make fuzz         run atheris on everything that parses data of other parties; FUZZ='upload query --minutes 5'
#
# Uses only features of GNU make 3.81 (2006), the version of macOS.

SCHEME  ?= exact dcr
BITS    ?= 3072
IMAGES  ?= sample_data/owners
QUERIES ?= sample_data/queries
OUT     ?= out
PAYLOAD ?=
SKIP_UNREADABLE ?=
EXTRAS  ?=
FUZZ    ?= all --minutes 20
PYTHON  ?= python3

VENV   := .venv
LOWEST := $(VENV)/lowest

# the fastest tests that together use every dependency
FAST := tests/scheme tests/containers tests/cli tests/compute/test_cluster.py tests/experiments/test_suite.py
FAST += --ignore tests/cli/test_passphrases.py

.PHONY: pipeline fresh test test-lowest test-pythons check lint docs bench fuzz release clean

# Recipes read these from the environment: make splits names at spaces, but a quoted shell variable is not split.
export SCHEME BITS IMAGES QUERIES OUT PAYLOAD SKIP_UNREADABLE

# The pipeline is a script rather than rules: whether a step is due depends on the content of files, not on their
# times. It can be interrupted anywhere and run again, and it never removes a role's directory.
define PIPELINE
# Print lines without control characters, which folder names may contain.
say() { printf '%s\n' "$@" | tr -d '\000-\010\013-\037\177'; }
stop() { say "$@" >&2; exit 2; }

# Print a command as it would be typed.
show() {
    line=mipp
    for word in "$@"; do
        case $word in *[!A-Za-z0-9._/=-]*) word="'$(printf '%s' "$word" | sed "s/'/&\\\\&&/g")'" ;; esac
        line="$line $word"
    done
    say "$line"
}

run() { show "$@"; .venv/bin/mipp "$@"; }

# In scheme exact the KMC stores the features and ranks.
kmc_ranks() { [ "$SCHEME" = exact ]; }

# Run a command; exit code 5, "already applied", is not an error here, and prints a single line. It means that
# nothing is new, or that the run before was interrupted just after this step.
run_if_new() {
    show "$@"
    code=0
    { said=$(.venv/bin/mipp "$@" 2>&1 >&3 3>&-) || code=$?; } 3>&1
    case $code in
        0) [ -z "$said" ] || say "$said" >&2 ;;
        5) say "nothing new: $(say "$said" | sed -n 's/^error: //p' | sed 's/^nothing is new: //')" ;;
        *) say "$said" >&2; return $code ;;
    esac
}

# Whether the folder $1 contains a picture, by the content of its files; hidden files are ignored, as by mipp.
has_pictures() {
    .venv/bin/python -c "import pathlib, sys
from mipp_cli.images.collection import holds_pictures
sys.exit(not holds_pictures(pathlib.Path(sys.argv[1])))" "${1%/}/."
}

# Stop with the exit code $1 of owner encrypt. 7 is an unreadable image; 2, bad input, may be due to DICOM files.
stop_at_encrypt() {
    [ "$1" -ne 7 ] || say "Options go through make: SKIP_UNREADABLE=1 for --skip-unreadable." >&2
    [ "$1" -ne 2 ] || [ -n "$PAYLOAD" ] ||
        say "For DICOM files give make the options EXTRAS=dicom, and PAYLOAD=pixels or PAYLOAD=file." >&2
    exit "$1"
}

# Print the id of the owner whose folder is $1: 1 to 64 letters, digits or . - _ + @
id_of() {
    printf '%s' "${1##*/}" | LC_ALL=C tr '\n' ' ' |
        LC_ALL=C sed 's/^[^A-Za-z0-9]*//; s/[^A-Za-z0-9._@+-]*$//; s/[^A-Za-z0-9._@+-][^A-Za-z0-9._@+-]*/-/g' |
        cut -c 1-64
}

lower() { printf '%s' "$1" | LC_ALL=C tr A-Z a-z; }

[ -e "$QUERIES" ] || stop "QUERIES=$QUERIES does not exist: give a query picture, or a folder of query pictures"
[ ! -d "$QUERIES" ] || has_pictures "$QUERIES" ||
    stop "QUERIES=$QUERIES contains no pictures: give a query picture, or a folder of query pictures"

# Each folder is an owner.
ids=
for folder in "$IMAGES"/*/; do
    [ -d "$folder" ] || stop "IMAGES=$IMAGES has no folders: make a folder of pictures in it for each owner"
    has_pictures "$folder" || { say "left out: ${folder%/}, which contains no pictures"; continue; }
    id=$(id_of "${folder%/}")
    [ -n "$id" ] ||
        stop "${folder%/}: this name gives no owner's id: rename it, with a digit or a letter a to z"
    case " $(lower "$ids") " in *" $(lower "$id") "*)  # the KMC refuses ids that differ only in case
        stop "${folder%/}: another folder has the same owner's id, $id: rename one of them" ;;
    esac
    ids="$ids $id"
done
for other in "$IMAGES"/*; do
    [ -d "$other" ] || say "left out: $other, which is not in an owner's folder"
done
[ -n "$ids" ] || stop "IMAGES=$IMAGES has no folder with pictures: make one in it for each owner"

# Stop if the folder $1 contains anything but $2 and folders that the pipeline made.
only_own() {
    for other in "$1"/*; do
        [ ! -e "$other" ] || [ "$other" = "$1/$2" ] || [ -s "$other/settings" ] ||
            stop "$other was not made by the pipeline: give an empty or a new folder, OUT=..."
    done
}

# Run the pipeline in scheme $1, in its own folder.
run_scheme() {
SCHEME=$1 OUT=$ALL/$1
say '' "Scheme $SCHEME, in $OUT"

# OUT keeps the settings of its first run.
case $SCHEME in
    exact | mask) modulus='' settings="SCHEME=$SCHEME" ;;  # these have no modulus
    *) modulus="--modulus-bits $BITS" settings="SCHEME=$SCHEME BITS=$BITS" ;;
esac
case $modulus in *' 768' | *' 1024' | *' 1536')  # only for tests
    modulus="$modulus --allow-insecure-modulus" ;;
esac
if [ -s "$OUT/settings" ] && [ -e "$OUT/kmc" ]; then
    begun=$(cat "$OUT/settings")
    if [ "$begun" != "$settings" ]; then
        say "$OUT was made with $begun, not with $settings. Nothing was changed." >&2
        say "Give the former settings, or another folder, OUT=..." >&2
        stop "To start again, first remove everything in it, including all keys: make fresh OUT='$ALL'"
    fi
else
    only_own "$OUT" settings
    mkdir -p "$OUT"
    say "$settings" > "$OUT/settings"
fi

# The KMC creates the deployment; all other roles need its kmc.pub. The owners authorise the doctor.
[ -e "$OUT/kmc" ] || run kmc init "$OUT/kmc" --scheme "$SCHEME" $modulus
[ -e "$OUT/cloud" ] || run cloud init "$OUT/cloud" --kmc "$OUT/kmc/kmc.pub"
[ -e "$OUT/doctor" ] || run user init "$OUT/doctor" --id doctor --kmc "$OUT/kmc/kmc.pub"
mkdir -p "$OUT/owners" "$OUT/uploads/indexed"
for id in $ids; do
    [ -e "$OUT/owners/$id" ] ||
        run owner init "$OUT/owners/$id" --id "$id" --kmc "$OUT/kmc/kmc.pub" --authorize "$OUT/doctor/user.pub"
done

# Owners send their lists of users to the KMC (enrolment.h5) and to the cloud (members.h5).
due=$(cat "$OUT"/owners/*/enrolment.h5 "$OUT"/owners/*/members.h5 "$OUT/cloud/cloud.pub" | cksum)
if [ "$due" != "$(cat "$OUT/enrolled" 2>/dev/null)" ]; then
    run_if_new kmc enroll "$OUT/kmc" "$OUT"/owners/*/enrolment.h5 "$OUT/cloud/cloud.pub"
    run_if_new cloud enroll "$OUT/cloud" "$OUT"/owners/*/members.h5
    say "$due" > "$OUT/enrolled"
fi

# Owners encrypt new images, each time into another upload, since an earlier one may not be indexed yet. If only a
# few images are new, they make a small group.
small=
! kmc_ranks || small=--small
for folder in "$IMAGES"/*/; do
    id=$(id_of "${folder%/}")
    case " $ids " in *" $id "*) ;; *) continue ;; esac
    number=1
    while [ -e "$OUT/uploads/$id-$number.h5" ] || [ -e "$OUT/uploads/indexed/$id-$number.h5" ]; do
        number=$((number + 1))
    done
    set -- owner encrypt "$OUT/owners/$id" "${folder%/}" -o "$OUT/uploads/$id-$number.h5" --resume $small
    [ -z "$PAYLOAD" ] || set -- "$@" --payload "$PAYLOAD"
    [ "$SKIP_UNREADABLE" != 1 ] || set -- "$@" --skip-unreadable
    if [ $number -gt 1 ]; then
        run_if_new "$@" || stop_at_encrypt $?
    else  # all images are new: show progress at a terminal
        run "$@" || { code=$?; [ $code -eq 5 ] || stop_at_encrypt $code; }
    fi
done

# The KMC indexes the features files in uploads, and the cloud the uploads.
set -- "$OUT"/uploads/*.features.h5
if [ -e "$1" ]; then
    run_if_new kmc index "$OUT/kmc" "$@"
    mv "$@" "$OUT/uploads/indexed"
fi
set -- "$OUT"/uploads/*.h5
if [ -e "$1" ]; then
    run_if_new cloud index "$OUT/cloud" "$@"
    mv "$@" "$OUT/uploads/indexed"
fi

# The doctor sends a query; the KMC or the cloud ranks; the cloud returns the matches; the KMC re-encrypts them for
# the doctor, who decrypts them. This is repeated if the query pictures, the index or the lists of users changed.
due=$({ find -L "$QUERIES" -type f -exec cksum {} + | LC_ALL=C sort
    cat "$OUT/cloud/index.h5" "$OUT"/owners/*/members.h5; } | cksum)
if [ "$due" != "$(cat "$OUT/answered" 2>/dev/null)" ] || [ ! -e "$OUT/matches/matches.csv" ]; then
    rm -f "$OUT/answered"
    run user query "$OUT/doctor" "$QUERIES" -o "$OUT/query.h5" --force
    request=$OUT/query.h5
    if kmc_ranks; then
        request=$OUT/selection.h5
        run kmc rank "$OUT/kmc" "$OUT/query.h5" -o "$request" --force
    fi
    run cloud search "$OUT/cloud" "$request" -o "$OUT/results.h5" --force
    run kmc reencrypt "$OUT/kmc" "$OUT/results.h5" -o "$OUT/reencrypted.h5" --force
    set -- user decrypt "$OUT/doctor" "$OUT/reencrypted.h5" -o "$OUT/matches" --force
    show "$@"
    ranked=$(.venv/bin/mipp "$@")
    say "$ranked" > "$OUT/matches.txt"
    say "$due" > "$OUT/answered"
fi
cat "$OUT/matches.txt"
say "page: $OUT/matches/matches.html"
say "contact sheet: $OUT/matches/contact-sheet.png"
}

# Print the matches of two schemes side by side.
beside() {
    for scheme in "$1" "$2"; do
        {
            say "scheme $scheme"
            grep -E '^(query |  +[0-9]+ )' "$ALL/$scheme/matches.txt" | grep -v '^query images: '
        } > "$ALL/$scheme/beside.txt"
    done
    longest='{ if (length($0) > w) w = length($0) } END { print 2 * w + 6 }'
    wide=$(awk "$longest" "$ALL/$1/beside.txt" "$ALL/$2/beside.txt")
    say ''
    pr -m -t -l 1 -w "$wide" "$ALL/$1/beside.txt" "$ALL/$2/beside.txt" | expand
    rm -f "$ALL/$1/beside.txt" "$ALL/$2/beside.txt"
}

ALL=$OUT
only_own "$ALL" "${SCHEME%% *}"
set -- $SCHEME
first=${1-} second=${2-}
for scheme in "$@"; do
    run_scheme "$scheme"
done
[ -z "$second" ] || beside "$first" "$second"
endef
export PIPELINE_SCRIPT := $(value PIPELINE)

comma := ,
space := $(comma:,= )
WITH := $(if $(strip $(EXTRAS)),-with-$(subst $(space),$(comma),$(strip $(EXTRAS))))

pipeline: | $(filter fresh,$(MAKECMDGOALS)) $(VENV)/installed$(WITH)
	@sh -eu -c "$$PIPELINE_SCRIPT"

# Remove only folders that the pipeline made: OUT may be mistyped.
fresh:
	@for scheme in $$SCHEME; do \
	  if [ -s "$$OUT/$$scheme/settings" ]; then \
	    echo "removing $$OUT/$$scheme: all roles with their keys"; rm -rf -- "$$OUT/$$scheme"; \
	  elif [ -e "$$OUT/$$scheme" ]; then \
	    echo "$$OUT/$$scheme was not made by make pipeline; remove it by hand, or give another folder, OUT=..." >&2; \
	    exit 2; \
	  else \
	    echo "$$OUT/$$scheme does not exist"; \
	  fi; \
	done

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mipp needs Python 3.11 or newer; give PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-with-%: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(VENV)/installed

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
	$(VENV)/bin/pytest -m "not slow"

# Install each dependency in the lowest version that pyproject.toml allows, on the lowest Python.
$(LOWEST)/installed: pyproject.toml tests/support/lowest.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and "this needs Python 3.11; give PYTHON=...")'
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(PYTHON) tests/support/lowest.py > $(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest $(FAST)

# Test with every other Python that the package supports and that is installed, on PATH or by pyenv.
test-pythons:
	@for minor in 11 12 13 14; do \
	  $(VENV)/bin/python -c "import sys; sys.exit(sys.version_info[1] != $$minor)" 2>/dev/null && continue; \
	  for python in python3.$$minor "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.$$minor.*/bin/python; do \
	    "$$python" -c '' 2>/dev/null || continue; \
	    $(MAKE) test VENV=$(VENV)/python3.$$minor PYTHON="$$python" || exit; \
	    break; \
	  done; \
	done

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

check: lint
	$(VENV)/bin/pytest

# Generate the page of commands.
docs: $(VENV)/installed-dev
	$(VENV)/bin/python -m tests.docs.commands --write

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m tests.benchmark $(BENCH)

fuzz: $(VENV)/installed-fuzz
	$(VENV)/bin/python -m tests.fuzz $(FUZZ)

release: $(VENV)/installed-with-release
	$(VENV)/bin/python tests/support/release.py

# Remove generated files, but not out/, which contains keys: see fresh.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
