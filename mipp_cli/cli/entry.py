"""Where the process begins: what interrupts it is caught before anything else is loaded."""

from __future__ import annotations

import resource
import signal
import sys

_NO_CORE_BYTES = 1  # less than a core file has; to Linux it also means: hand none to a program that asks


def forbid_core_files() -> None:
    """Keep a crash from writing memory, and the keys in it, to a file; workers inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    most_allowed = _NO_CORE_BYTES if most == resource.RLIM_INFINITY else min(most, _NO_CORE_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (most_allowed, most_allowed))


def main() -> None:
    """Run `mipp`; an interrupt ends it with a message, while its modules are still being loaded too."""
    forbid_core_files()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)  # clean up, as after Ctrl-C
    try:
        from mipp_cli.cli import main as program

        program.main()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # what is left to do is to say so
        from mipp_cli.cli.main import report_interrupt

        sys.exit(report_interrupt(as_json="--json" in sys.argv))
