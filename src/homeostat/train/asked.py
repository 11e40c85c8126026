"""When each request was asked: at the instant of its answer, and else when it became known.

A row of an answered request has its features as the answer read them: at that instant, and of the
records that its snapshot held.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from homeostat.declare.models import Label
from homeostat.features.seen import SEEN

__all__ = ["ASKED", "asked"]

ASKED = "_asked_at"
_ID, _FINAL, _RANK, _OFFSET = "_id", "_final", "_rank", "offset_"


def asked(requests: pl.DataFrame, label: Label, answers: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return requests with the instant at which each was answered, and what that answer saw.

    Of several answers to a request the first one counts. One that was given when the label was
    final, `delay` after the request became known, is a question about the past: it does not count,
    for what is final never changes.

    Args:
        requests: events frame of `label.predicts`, at least its id and `_known_time`.
        label: the declared label.
        answers: rows of prediction logs, at least `request_id` and `at`; `offset_SOURCE` says up to
            which record of a source an answer saw. An earlier frame goes before a later one: that
            of the model itself before those of others.

    Returns:
        The requests in their order, with `_asked_at` (missing where no answer counts) and, per
        source, `_seen_SOURCE` (missing where that was not recorded); as they came where no answer
        counts for any.
    """
    rows = requests.select(
        pl.col(label.predicts.event_id).cast(pl.String).alias(_ID),
        (pl.col("_known_time").dt.epoch("us") + label.delay_us).alias(_FINAL),
    )
    ranked = [frame.with_columns(pl.lit(rank).alias(_RANK)) for rank, frame in enumerate(answers)]
    counting = (
        pl.concat(ranked, how="diagonal")
        .join(rows, left_on="request_id", right_on=_ID)
        .filter(pl.col("at").dt.epoch("us") <= pl.col(_FINAL))
        .sort(_RANK, "at")
        .unique("request_id", keep="first", maintain_order=True)
    )
    if not counting.height:
        return requests
    seen = [name for name in counting.columns if name.startswith(_OFFSET)]
    found = rows.join(
        counting, left_on=_ID, right_on="request_id", how="left", maintain_order="left"
    )
    return requests.hstack(
        found.select(
            pl.col("at").alias(ASKED),
            *(pl.col(name).alias(SEEN + name.removeprefix(_OFFSET)) for name in seen),
        )
    )
