"""The entry point: signal handlers are installed before anything else is imported."""

from __future__ import annotations

import os
import resource
import signal
import sys

_NO_CORE_BYTES = 1  # too small for a core file; Linux then also pipes none to a handler program
_OPEN_FILES = 8192  # below the smallest limit of any system


def forbid_core_files() -> None:
    """Prevent core dumps, which would write keys to disk; workers inherit this."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    most_allowed = _NO_CORE_BYTES if most == resource.RLIM_INFINITY else min(most, _NO_CORE_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (most_allowed, most_allowed))


def allow_open_files() -> None:
    """Raise the limit on open files to what the system allows, which is often more than the default."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if least not in (resource.RLIM_INFINITY, wanted) and least < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def open_standard_streams() -> None:
    """Open the null device in place of closed standard streams.

    Otherwise the next file opened would take that place, and a library's output would go into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115, PTH123 -- open until the process ends
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def main() -> None:
    """Run `mipp`; an interrupt ends it with a message, even while modules are being imported."""
    open_standard_streams()
    forbid_core_files()
    allow_open_files()
    if "experiment" not in sys.argv:  # numpy starts threads on import, which only experiments need
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)  # clean up as after Ctrl-C
    try:
        from mipp_cli.cli import main as program

        program.main()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # only the message is left to print
        from mipp_cli.cli.main import report_interrupt

        sys.exit(report_interrupt(as_json="--json" in sys.argv))
