"""What to do with a column before a model sees it, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from homeostat.features.profile_columns import ColumnProfile, Numbers
from homeostat.features.profile_outliers import Outliers

__all__ = ["Suggestion", "suggest"]

FEW = 20
"""A text of at most so many values is marked value by value."""

MOSTLY_MISSING = 0.95
LONG = 3.0
"""From so many words per value on, a text is read word by word."""

SKEWED = 2.0


@dataclass(frozen=True, slots=True)
class Suggestion:
    """`code` is what to write among the model's transforms ("" where none), `reason` is why.

    `action` is `transform`, `derive` (make other features of it), `keep` (as it is) or `leave_out`.
    """

    action: str
    code: str
    reason: str


def suggest(column: ColumnProfile) -> tuple[Suggestion, ...]:
    """Return what to do with a column, in order."""
    name = column.name
    if column.is_constant:
        return (Suggestion("leave_out", "", "every row has the same value"),)
    if column.missing_share >= MOSTLY_MISSING:
        share = f"missing in {column.missing_share:.1%} of the rows"
        if column.kind in ("integer", "float"):
            code = f"Impute({name!r}, indicator=True)"
            return (Suggestion("transform", code, f"{share}: that it is there may be all it says"),)
        return (Suggestion("leave_out", "", share),)
    if column.kind == "string":
        return _text(column)
    if column.kind == "timestamp":
        reason = "an instant only grows; hour, weekday, age and time since are features"
        return (Suggestion("derive", "", reason),)
    if column.kind in ("integer", "float") and column.numbers is not None:
        return _number(column, column.numbers)
    return (Suggestion("keep", "", "two values are taken as 0 and 1"),)


def _text(column: ColumnProfile) -> tuple[Suggestion, ...]:
    name, present = column.name, column.rows - column.missing
    if column.words is not None and column.words >= LONG:
        reason = f"texts of {column.words:.1f} words on average"
        return (Suggestion("transform", f"Tokens({name!r}, width=64)", reason),)
    if column.distinct >= 0.9 * present and present > FEW:
        return (Suggestion("leave_out", "", "nearly every row has its own value: it is a name"),)
    if column.distinct <= FEW:
        code = f"OneHot({name!r}, at_most={column.distinct})"
        return (Suggestion("transform", code, f"{column.distinct} categories"),)
    rows = present / column.distinct
    target = Suggestion(
        "transform", f"TargetEncoding({name!r})",
        f"{column.distinct} categories, {rows:.0f} rows each on average",
    )  # fmt: skip
    if rows >= FEW:
        return (target,)
    frequency = Suggestion(
        "transform", f"FrequencyEncoding({name!r})", "rare categories: how rare may say more"
    )
    return target, frequency


def _number(column: ColumnProfile, numbers: Numbers) -> tuple[Suggestion, ...]:
    name, found = column.name, []
    is_skewed = _gains_by_log(numbers)
    if column.missing:
        by = "median" if is_skewed or column.outliers else "mean"
        found.append(
            Suggestion(
                "transform",
                f"Impute({name!r}, by={by!r}, indicator=True)",
                f"missing in {column.missing_share:.1%} of the rows; trees need no filling",
            )
        )
    if column.distinct == 2:
        return (*found, Suggestion("keep", "", "two values"))
    if column.kind == "integer" and column.distinct <= FEW:
        code = f"OneHot({name!r}, at_most={column.distinct})"
        reason = f"{column.distinct} whole numbers: marks if they are codes; trees take them as is"
        return (*found, Suggestion("transform", code, reason))
    if column.outliers is not None and column.outliers.verdict != "genuine":
        found.append(
            Suggestion("transform", f"Clip({name!r}, flag=True)", _far_out(column.outliers))
        )
    if is_skewed:
        reason = f"skewness {numbers.skewness:.1f}; linear models read it better in logarithms"
        found.append(Suggestion("transform", f"Log({name!r})", reason))
    by = "robust" if column.outliers and not is_skewed else "standard"
    reason = "linear models compare sizes; trees need no scaling"
    return (*found, Suggestion("transform", f"Scale({name!r}, by={by!r})", reason))


def _far_out(outliers: Outliers) -> str:
    said = "; ".join(outliers.reasons) or "far from the others, and not a long tail"
    return f"{outliers.rows} values out of bounds: {said}"


def _gains_by_log(numbers: Numbers) -> bool:
    """Whether the quantiles are far more even in logarithms, as a long tail's are."""
    if abs(numbers.skewness) < SKEWED:
        return False
    low, middle, high = (numbers.quantiles[place] for place in (1, 4, 7))
    logs = [float(np.sign(q) * np.log1p(abs(q))) for q in (low, middle, high)]
    return _lean(*logs) < _lean(low, middle, high)


def _lean(low: float, middle: float, high: float) -> float:
    return abs((high - middle) - (middle - low)) / (high - low) if high > low else 0.0
