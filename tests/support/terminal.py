"""Commands at a terminal of their own, which types the answers to what they ask."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cli.test_processes import MIPP, environment

TERMINAL_SECONDS = 30


def at_terminal(
    *words: object,
    answers: Sequence[str | bytes],
    question: str = "assphrase",
    stdout: Path | None = None,
    locale: Mapping[str, str] = {},
) -> tuple[int, str]:
    """Run `mipp` at a terminal of its own; give its exit code and what it showed.

    Each answer is typed when the next ``question`` stands there. With ``stdout`` that goes to a file.
    ``locale`` are variables of the environment.
    """
    child, terminal = pty.fork()
    if child == 0:
        if stdout is not None:
            os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
        os.execve(MIPP[0], [*MIPP, *map(str, words)], environment(**locale))
    asked, shown, typed, end = question.encode(), b"", 0, time.monotonic() + TERMINAL_SECONDS
    try:
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                read = os.read(terminal, 4096)
            except OSError:  # the other side is closed
                read = b""
            if not read:
                break
            shown += read
            if typed < len(answers) and shown.count(asked) > typed and shown.rstrip().endswith(b":"):
                answer = answers[typed]
                os.write(terminal, (answer.encode() if isinstance(answer, str) else answer) + b"\n")
                typed += 1
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode(errors="replace")
