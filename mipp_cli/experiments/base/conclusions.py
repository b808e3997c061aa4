"""Conclusions from intervals, in the same words for every claim."""

from __future__ import annotations

from mipp_cli.experiments.base.bootstrap import Interval

CONFIRMED = "confirmed"
NO_DIFFERENCE = "no difference shown"


def about_lower(claimed: float, drop: Interval, whole: float) -> str:
    """Judge the claim that something is about ``claimed``, a share, lower than the mean ``whole``.

    ``drop`` is the measured difference. The claim may mean points or a relative drop: it is confirmed if
    either lies in the interval, unless the interval also contains zero.
    """
    if drop.low <= 0 <= drop.high:
        return NO_DIFFERENCE
    readings = [claimed, *([claimed * whole] if whole else [])]
    if any(drop.low <= reading <= drop.high for reading in readings):
        return CONFIRMED
    relative = f", a drop of {100 * drop.mean / whole:.0f} %" if whole else ""
    return f"not confirmed: the difference is {drop.points}{relative}"


def which_is_better(first: str, second: str, gain: Interval) -> str:
    """Return which of two is better, by the interval of the first minus the second."""
    if gain.low > 0:
        return f"{first} is better"
    if gain.high < 0:
        return f"{second} is better"
    return NO_DIFFERENCE


def within_reach(measured: float, claimed: float, factor: float) -> str:
    """Judge a claimed cost: confirmed if the measured one is within a factor of it, or below."""
    if measured > claimed * factor:
        return f"not confirmed: {measured / claimed:.3g} times as much"
    if measured * factor < claimed:
        return f"confirmed, and less: {claimed / measured:.3g} times less"
    return CONFIRMED
