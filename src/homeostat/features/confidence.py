"""How sure a count of rare things in a sample makes one about how rare they are."""

from __future__ import annotations

from math import expm1, log

__all__ = ["upper_bound"]


def upper_bound(found: int, drawn: int, confidence: float = 0.95) -> float:
    """Return the share that `found` in `drawn` rules out to be exceeded, with this confidence.

    The exact one-sided bound of Clopper and Pearson (1934): at that share, finding so few has a
    probability of 1 - confidence. With nothing found it is 1 - 0.05^(1/n), near the rule of three.

    Args:
        found: how many of those drawn have what is looked for.
        drawn: how many were drawn, independently and at random; 0 rules nothing out.
        confidence: above 0, below 1.

    >>> f"{upper_bound(0, 3000):.5f} {upper_bound(1, 3000):.5f} {upper_bound(3, 3):.1f}"
    '0.00100 0.00158 1.0'
    """
    if found >= drawn:
        return 1.0
    if found == 0:
        return -expm1(log(1 - confidence) / drawn)
    from scipy.special import betaincinv

    return float(betaincinv(found + 1, drawn - found, confidence))
