# make pipeline     four roles, end to end, on IMAGES, in scheme exact and in dcr; SCHEME=exact runs one. Run
#                   again, it goes on with what is new. DICOM: EXTRAS=dicom, and PAYLOAD=pixels or PAYLOAD=file.
#                   SKIP_UNREADABLE=1 leaves out images that cannot be read
# make fresh        removes what that made in OUT, keys and all; nothing else does
# make test         the tests but for the slow ones; make check  linters and all tests
# make test-lowest  some tests with the lowest versions; make test-pythons  the tests on each other Python there is
# make docs         the page of commands, from the commands
# make bench        the table of speeds and sizes; BENCH='--only help search' for some of it, --help for more
# make release      sdist and wheel in dist/, checked, installed in an empty environment and tried there
# make fuzz         atheris on whatever reads bytes of another party; FUZZ='upload query --minutes 5'
#
# It keeps to what GNU make 3.81 (2006) knows, which macOS has.

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

# what takes the fewest minutes and still touches every dependency
FAST := tests/scheme tests/containers tests/cli tests/compute/test_cluster.py tests/experiments/test_suite.py
FAST += --ignore tests/cli/test_passphrases.py

.PHONY: pipeline fresh test test-lowest test-pythons check lint docs bench fuzz release clean

# A recipe reads these from its environment: make splits names at spaces, a quoted shell variable does not.
export SCHEME BITS IMAGES QUERIES OUT PAYLOAD SKIP_UNREADABLE

# The pipeline is a script, and not a graph of files: whether a step is due depends on what files hold, and
# never on their times. It can be broken off anywhere and run again, and it removes no role's directory.
define PIPELINE
# Names of folders may hold what would steer a terminal.
say() { printf '%s\n' "$@" | tr -d '\000-\010\013-\037\177'; }
stop() { say "$@" >&2; exit 2; }

# Print a command as one would type it.
show() {
    line=mipp
    for word in "$@"; do
        case $word in *[!A-Za-z0-9._/=-]*) word="'$(printf '%s' "$word" | sed "s/'/&\\\\&&/g")'" ;; esac
        line="$line $word"
    done
    say "$line"
}

run() { show "$@"; .venv/bin/mipp "$@"; }

# In scheme exact the KMC keeps the features, and ranks.
kmc_ranks() { [ "$SCHEME" = exact ]; }

# Exit code 5 is "already applied": there is nothing new, or the run before ended just after this step. Here it
# is no error, and one line says it.
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

# Whether the folder $1 holds a picture, as mipp sees it: by the content of files, hidden ones passed over.
has_pictures() {
    .venv/bin/python -c "import pathlib, sys
from mipp_cli.images.collection import holds_pictures
sys.exit(not holds_pictures(pathlib.Path(sys.argv[1])))" "${1%/}/."
}

# Stop with the exit code $1 of owner encrypt. 7 is an unreadable image; in 2, bad input, DICOM may be the reason.
stop_at_encrypt() {
    [ "$1" -ne 7 ] || say "Options go through make: SKIP_UNREADABLE=1 for --skip-unreadable." >&2
    [ "$1" -ne 2 ] || [ -n "$PAYLOAD" ] ||
        say "Options go through make: PAYLOAD=pixels or PAYLOAD=file, and EXTRAS=dicom for DICOM files." >&2
    exit "$1"
}

# The id of the owner whose folder is $1. Ids have 1 to 64 letters, digits and any of . - _ + @
id_of() {
    printf '%s' "${1##*/}" | LC_ALL=C tr '\n' ' ' |
        LC_ALL=C sed 's/^[^A-Za-z0-9]*//; s/[^A-Za-z0-9._@+-]*$//; s/[^A-Za-z0-9._@+-][^A-Za-z0-9._@+-]*/-/g' |
        cut -c 1-64
}

lower() { printf '%s' "$1" | LC_ALL=C tr A-Z a-z; }

[ -e "$QUERIES" ] || stop "QUERIES=$QUERIES does not exist: give a picture, or a folder of pictures, to ask with"
[ ! -d "$QUERIES" ] || has_pictures "$QUERIES" ||
    stop "QUERIES=$QUERIES holds no pictures: give a picture, or a folder of pictures, to ask with"

# Owners: a folder each.
ids=
for folder in "$IMAGES"/*/; do
    [ -d "$folder" ] || stop "IMAGES=$IMAGES has no folders: give each owner a folder of pictures there"
    has_pictures "$folder" || { say "left out: ${folder%/}, which holds no pictures"; continue; }
    id=$(id_of "${folder%/}")
    [ -n "$id" ] ||
        stop "${folder%/}: no owner's id can be made of this name: it needs a digit or a letter a to z"
    case " $(lower "$ids") " in *" $(lower "$id") "*)  # of two in other letters the KMC takes one
        stop "${folder%/}: another folder beside it makes the owner $id, too: rename one of them" ;;
    esac
    ids="$ids $id"
done
for other in "$IMAGES"/*; do
    [ -d "$other" ] || say "left out: $other, which is in no owner's folder"
done
[ -n "$ids" ] || stop "IMAGES=$IMAGES has no folder with pictures: give each owner a folder of pictures there"

# Stop at what lies in the folder $1 and is not called $2, nor a folder that the pipeline began.
only_own() {
    for other in "$1"/*; do
        [ ! -e "$other" ] || [ "$other" = "$1/$2" ] || [ -s "$other/settings" ] ||
            stop "$other was there before the pipeline: give another OUT=, an empty or a new folder"
    done
}

# All of it in scheme $1, in a folder of its own.
run_scheme() {
SCHEME=$1 OUT=$ALL/$1
say '' "Scheme $SCHEME, in $OUT"

# Settings: OUT keeps those it was begun with.
case $SCHEME in
    exact | mask) modulus='' settings="SCHEME=$SCHEME" ;;  # they have no modulus
    *) modulus="--modulus-bits $BITS" settings="SCHEME=$SCHEME BITS=$BITS" ;;
esac
case $modulus in *' 768' | *' 1024' | *' 1536')  # only for trying things out
    modulus="$modulus --allow-insecure-modulus" ;;
esac
if [ -s "$OUT/settings" ] && [ -e "$OUT/kmc" ]; then
    begun=$(cat "$OUT/settings")
    if [ "$begun" != "$settings" ]; then
        say "$OUT was begun with $begun, but now it is $settings. Nothing was changed." >&2
        say "Give the former settings, or another OUT=." >&2
        stop "To begin anew, first remove all that is there, keys and all: make fresh OUT='$ALL'"
    fi
else
    only_own "$OUT" settings
    mkdir -p "$OUT"
    say "$settings" > "$OUT/settings"
fi

# The key management centre draws the deployment; everybody else needs kmc.pub. Owners authorise the doctor.
[ -e "$OUT/kmc" ] || run kmc init "$OUT/kmc" --scheme "$SCHEME" $modulus
[ -e "$OUT/cloud" ] || run cloud init "$OUT/cloud" --kmc "$OUT/kmc/kmc.pub"
[ -e "$OUT/doctor" ] || run user init "$OUT/doctor" --id doctor --kmc "$OUT/kmc/kmc.pub"
mkdir -p "$OUT/owners" "$OUT/uploads/indexed"
for id in $ids; do
    [ -e "$OUT/owners/$id" ] ||
        run owner init "$OUT/owners/$id" --id "$id" --kmc "$OUT/kmc/kmc.pub" --authorize "$OUT/doctor/user.pub"
done

# Owners say whom they authorised, to the KMC (enrolment.h5) and to the cloud (members.h5).
due=$(cat "$OUT"/owners/*/enrolment.h5 "$OUT"/owners/*/members.h5 "$OUT/cloud/cloud.pub" | cksum)
if [ "$due" != "$(cat "$OUT/enrolled" 2>/dev/null)" ]; then
    run_if_new kmc enroll "$OUT/kmc" "$OUT"/owners/*/enrolment.h5 "$OUT/cloud/cloud.pub"
    run_if_new cloud enroll "$OUT/cloud" "$OUT"/owners/*/members.h5
    say "$due" > "$OUT/enrolled"
fi

# Owners encrypt what is new, each time into another upload: one from before may not be indexed yet. A last
# few pictures may make a small group.
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
    else  # all is new, and a terminal is to show how far it is
        run "$@" || { code=$?; [ $code -eq 5 ] || stop_at_encrypt $code; }
    fi
done

# The cloud verifies and indexes what waits in uploads, and the KMC the features beside it.
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

# The doctor asks; the KMC ranks, or else the cloud does; the cloud brings what was found; the KMC re-encrypts
# it for the doctor, who decrypts. They do so again if the examples, the index or the lists of users are others
# than those of the last answer.
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

# Print the matches of two schemes beside each other.
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

# Only a folder that the pipeline began: OUT may be mistyped.
fresh:
	@for scheme in $$SCHEME; do \
	  if [ -s "$$OUT/$$scheme/settings" ]; then \
	    echo "removing $$OUT/$$scheme: all roles, with their keys"; rm -rf -- "$$OUT/$$scheme"; \
	  elif [ -e "$$OUT/$$scheme" ]; then \
	    echo "$$OUT/$$scheme was not begun by make pipeline; remove it by hand, or give another OUT=" >&2; \
	    exit 2; \
	  else \
	    echo "there is no $$OUT/$$scheme"; \
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

# Each dependency in the lowest version that pyproject.toml allows, on the lowest Python.
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

# On each other Python that the package allows and that is there, by name or as pyenv keeps it.
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

# The page of commands, from the commands.
docs: $(VENV)/installed-dev
	$(VENV)/bin/python -m tests.docs.commands --write

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m tests.benchmark $(BENCH)

fuzz: $(VENV)/installed-fuzz
	$(VENV)/bin/python -m tests.fuzz $(FUZZ)

release: $(VENV)/installed-with-release
	$(VENV)/bin/python tests/support/release.py

# What can be made again. Not out/, which holds keys: see fresh.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
