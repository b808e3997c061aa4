"""Log long steps and their times to the standard library's `logging`.

A logger has the name of its module, below `mipp_cli`, and is silent unless a handler is configured. Messages
contain only kinds, sizes and paths given by the user, never keys, passphrases, features or image names.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

logging.getLogger("mipp_cli").addHandler(logging.NullHandler())


def timed(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function to log its time when it ends; ``what`` may use its arguments: "opening {path}"."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        logger, signature = logging.getLogger(function.__module__), inspect.signature(function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            if not logger.isEnabledFor(logging.INFO):
                return function(*args, **kwargs)
            said = what.format_map(signature.bind(*args, **kwargs).arguments)
            began, outcome = time.perf_counter(), "failed after "
            try:
                result = function(*args, **kwargs)
                outcome = ""
                return result
            finally:
                logger.info("%s: %s%.3f s", said, outcome, time.perf_counter() - began)

        return run

    return decorate
