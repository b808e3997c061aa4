"""``--help`` of every command, its examples, and what starting the program loads."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from mipp_cli import __version__
from mipp_cli.cli.main import mipp
from tests.support.deployment import done

HEAVY = ("numpy", "h5py", "gmpy2", "cryptography", "PIL", "tqdm", "matplotlib", "distributed", "onnxruntime")


def _commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


COMMANDS = {" ".join(path): command for path, command in _commands(mipp)}
LEAVES = [name for name, command in COMMANDS.items() if not isinstance(command, click.Group)]
WANTED = {
    *("kmc init", "kmc enroll", "kmc reencrypt", "cloud init", "cloud enroll", "cloud index", "cloud search"),
    *("user init", "user query", "user decrypt", "owner init", "owner authorize", "owner revoke"),
    *("owner encrypt", "features", "inspect", "owner delete", "owner rotate-key", "owner forget-key"),
    *(
        "owner renumber",
        "owner update-kmc-key",
        "user update-kmc-key",
        "user forget",
        "cloud check",
        "cloud remove",
    ),
    *("kmc status", "kmc check", "kmc remove", "kmc rotate-key", "kmc forget-key", "protect"),
    *("kmc index", "kmc rank", "owner features", "owner list"),
}
OPTIONS = {
    "kmc init": {
        *("--scheme", "--group-size", "--descriptor", "--modulus-bits"),
        *("--model", "--model-output", "--model-pooling"),
    },
    "owner init": {"--model", "--authorize", "--image-names"},
    "user init": {"--model"},
    "features": {"--descriptor", "--device"},
    "kmc rank": {"--output", "--cloud", "--limit", "--force"},
    "owner encrypt": {
        *("--again", "--undelete", "--dry-run", "--skip-unreadable", "--resume", "--split", "--small"),
        *("--features", "--model", "--device"),
    },
    "owner features": {"--output"},
    "user query": {"--candidates", "--owner", "--features", "--model", "--device"},
    "owner delete": {"--again", "--files-from"},
    "owner list": {"--deleted", "--upload", "--match", "--csv"},
    "owner forget-key": {"--applied"},
    "owner renumber": {"--above"},
    "cloud index": {"--rebuild", "--drop-damaged"},
}
GONE = {"--replace", "--unlisted", "--undo", "--decoys"}


def test_every_command_of_the_design_is_there() -> None:
    assert set(COMMANDS) >= WANTED


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_the_design_is_there(name: str) -> None:
    assert OPTIONS[name] <= {option for each in COMMANDS[name].params for option in each.opts}


def test_no_command_of_version_1_is_left() -> None:
    assert not {"cloud collect", "owner withdraw"} & set(COMMANDS)


def test_scheme_exact_is_what_a_deployment_has_unless_told() -> None:
    (scheme,) = (each for each in COMMANDS["kmc init"].params if "--scheme" in each.opts)
    assert scheme.default == "exact"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_of_version_1_is_left(name: str) -> None:
    assert not GONE & {option for each in COMMANDS[name].params for option in each.opts}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_explains_each_of_its_options(name: str) -> None:
    shown = done(*name.split(), "--help").out
    assert shown.startswith(f"Usage: mipp {name} ")
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            for option in parameter.opts:
                assert option in shown
        else:
            assert parameter.make_metavar(click.Context(command)).strip("[]") in shown


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_80_columns(name: str) -> None:
    assert max(map(len, done(*name.split(), "--help").out.splitlines())) <= 80


def _parse(line: str) -> str:
    """Parse a command line as `mipp` does, without running it; return the name of its command."""
    program, *words = shlex.split(line, comments=True)
    assert program == "mipp"
    name = next(name for name in LEAVES if words[: len(name.split())] == name.split())
    COMMANDS[name].make_context(name, words[len(name.split()) :])  # click's errors say what is wrong
    return name


@pytest.mark.parametrize("name", LEAVES)
def test_the_help_of_a_command_ends_with_valid_examples(name: str) -> None:
    _, _, shown = done(*name.split(), "--help").out.partition("\n  Examples:\n")
    examples = shown.splitlines()
    assert 1 <= len(examples) <= 2
    assert {_parse(example) for example in examples} == {name}


def test_the_top_level_help_shows_a_valid_first_run() -> None:
    shown = done("--help").out.partition("A first run:\n")[2].partition("\n\n")[0].splitlines()
    named = [_parse(line) for line in shown]
    assert (named[0], named[-1], len(named)) == ("kmc init", "user decrypt", 14)


@pytest.mark.parametrize("line", ["mipp kmc init", "mipp kmc init kmc --no-such", "mipp user forget --all"])
def test_an_example_that_is_no_command_line_is_noticed(line: str) -> None:
    with pytest.raises(click.UsageError):
        _parse(line)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_can_report_as_json(name: str) -> None:
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


def test_the_top_level_help_lists_the_commands_and_a_first_run() -> None:
    for words in (("--help",), ("-h",)):
        shown = done(*words).out
        assert "kmc init KMC" in shown
        for name in ("kmc", "cloud", "user", "owner", "features", "inspect"):
            assert f"\n  {name} " in shown


def test_the_version_is_the_packages() -> None:
    assert done("--version").out == f"mipp, version {__version__}\n"


def _loaded(code: str) -> set[str]:
    script = f"import sys; {code}; print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in ran.stderr.split()}


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert not _loaded("import mipp_cli.cli.main") & set(HEAVY)


def test_the_entry_loads_not_even_click() -> None:
    assert not _loaded("import mipp_cli.cli.entry") & {*HEAVY, "click"}


@pytest.mark.parametrize("name", [name for name in COMMANDS if isinstance(COMMANDS[name], click.Group)])
def test_the_help_of_a_group_cuts_no_summary(name: str) -> None:
    shown = done(name, "--help").out
    assert "..." not in shown.partition("Commands:")[2]
    for path, command in COMMANDS.items():
        if path.startswith(f"{name} "):
            assert command.help is not None
            assert command.help.partition("\n")[0] in " ".join(shown.split())


@pytest.mark.parametrize("words", [["--help"], ["owner", "--help"], ["user", "decrypt", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"import mipp_cli.cli.main as m\ntry: m.mipp.main({words!r})\nexcept SystemExit: pass\n"
    assert not _loaded(f"exec({code!r})") & set(HEAVY)
