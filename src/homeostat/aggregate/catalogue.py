"""The summaries by their declared names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeostat.aggregate.decayed import DecayedSum
from homeostat.aggregate.distinct import DistinctCount
from homeostat.aggregate.quantiles import Quantiles
from homeostat.aggregate.recent import LastN
from homeostat.aggregate.summaries import Summary
from homeostat.aggregate.top import TopShare, TopValues
from homeostat.declare.aggregations import FeatureSpec

__all__ = ["SUMMARIES", "summary_of"]

SUMMARIES: dict[str, Callable[..., Summary]] = {
    "last_n": LastN,
    "distinct_count": DistinctCount,
    "quantile": Quantiles,
    "top_share": TopShare,
    "top_values": TopValues,
    "decayed_sum": DecayedSum,
}
"""Every built-in summary; the options of a declaration are its fields."""


def summary_of(spec: FeatureSpec) -> Summary | None:
    """Return the summary that a feature is read from, or None if it is none of a summary.

    >>> from homeostat.declare.summaries import last_n
    >>> summary_of(last_n("delay", 2).features()[0])
    LastN(n=2)
    """
    if spec.custom is not None:
        own: Summary = spec.custom
        return own
    made = SUMMARIES.get(spec.operation)
    options: dict[str, Any] = spec.option
    return None if made is None else made(**options)
