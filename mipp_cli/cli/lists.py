"""Types of options that take lists, for a batch, or a number of queries."""

from __future__ import annotations

from typing import Any

import click


class _Words(click.ParamType[tuple[str, ...]]):
    """Words, separated by commas."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words in ``value``."""
        words = value if isinstance(value, tuple) else tuple(str(value).split(","))
        stripped = tuple(str(word).strip() for word in words)
        if not all(stripped):
            self.fail(f"{value!r} is not a list; write a,b,c", param, ctx)
        return stripped


class _Numbers(click.ParamType[tuple[int, ...]]):
    """Whole numbers from 1 on, separated by commas."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Return the numbers in ``value``."""
        words = value if isinstance(value, tuple) else str(value).split(",")
        numbers = [str(word).strip() for word in words]
        if not all(number.isascii() and number.isdecimal() and int(number) > 0 for number in numbers):
            self.fail(f"{value!r} is not a list of numbers; write 10,50,100", param, ctx)
        return tuple(int(number) for number in numbers)


class _Queries(click.ParamType["int | str"]):
    """A number of queries in each category, or `all`."""

    name = "queries"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or `all`."""
        text = str(value)
        if text == "all":
            return text
        if not (text.isascii() and text.isdecimal() and int(text) > 0):
            self.fail(f"{value!r} is no number of queries; write 5, or all", param, ctx)
        return int(text)


WORDS, NUMBERS, QUERIES = _Words(), _Numbers(), _Queries()
