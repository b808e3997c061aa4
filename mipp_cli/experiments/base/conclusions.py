"""What follows from an interval, in a few words: the same words wherever a claim is weighed."""

from __future__ import annotations

from mipp_cli.experiments.base.bootstrap import Interval

CONFIRMED = "confirmed"
NO_DIFFERENCE = "no difference shown"


def about_lower(claimed: float, drop: Interval, whole: float) -> str:
    """Weigh the claim that something is about ``claimed``, a share, lower than the mean ``whole``.

    ``drop`` is the difference measured. The claim may mean points or a part of the whole: it is confirmed
    if either reading lies in the interval, but not where no difference at all lies in it too.
    """
    if drop.low <= 0 <= drop.high:
        return NO_DIFFERENCE
    readings = [claimed, *([claimed * whole] if whole else [])]
    if any(drop.low <= reading <= drop.high for reading in readings):
        return CONFIRMED
    relative = f", {100 * drop.mean / whole:.0f} % of it" if whole else ""
    return f"not confirmed: the difference is {drop.points}{relative}"


def which_is_better(first: str, second: str, gain: Interval) -> str:
    """Say which of two is better, by the interval of the first less the second."""
    if gain.low > 0:
        return f"{first} is better"
    if gain.high < 0:
        return f"{second} is better"
    return NO_DIFFERENCE


def within_reach(measured: float, claimed: float, factor: float) -> str:
    """Weigh a cost that is claimed: confirmed if the one measured is within a factor of it, or below."""
    if measured > claimed * factor:
        return f"not confirmed: {measured / claimed:.3g} times as much"
    if measured * factor < claimed:
        return f"confirmed, and less: {claimed / measured:.3g} times less"
    return CONFIRMED
