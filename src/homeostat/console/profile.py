"""The page of a profile: what every column of a table holds, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from homeostat.console.bars import Bar, bars
from homeostat.console.distributions import histogram, patterns, top_values, written
from homeostat.console.page import document, figure, section, table, tile
from homeostat.console.wording import many
from homeostat.features.profile import Profile
from homeostat.features.profile_columns import ColumnProfile

__all__ = ["render_profile"]

RELATIONS = {
    "equal": "equal in every row",
    "one_to_one": "each value of one goes with one value of the other",
    "rank_correlated": "in the same order",
}


def render_profile(name: str, found: Profile) -> str:
    """Return the HTML page of a profile of the table `name`; it needs no network and no script."""
    body = [_head(name, found), _attention(found), _columns(found), _knowledge(found)]
    body += [_missing(found), _twins(found), _advice(found), _foot(name)]
    return document(f"{name}: a profile by Homeostat", body)


def _head(name: str, found: Profile) -> str:
    cells = found.rows * len(found.columns)
    empty = sum(column.missing for column in found.columns)
    doubtful = [c for c in found.columns if c.outliers and c.outliers.verdict == "quality"]
    leaks = len({leak.column for leak in found.leaks})
    tiles = [
        tile(f"{found.rows:,}", "rows"),
        tile(f"{len(found.columns)}", "columns"),
        tile(f"{found.duplicate_rows:,}", "rows equal to an earlier one"),
        tile(f"{empty / cells:.1%}" if cells else "0%", "of the values are missing"),
        tile(f"{len(doubtful)}", "columns with likely mistakes",
             "bad" if doubtful else "good"),
        tile(f"{leaks}", "suspected leaks",
             "bad" if leaks else "good"),
    ]  # fmt: skip
    held = "held against its label" if found.knowledge else "without a label"
    return (
        f'<p class="over">Homeostat · profile</p><h1>{escape(name)}</h1>'
        f'<p class="lede">{many(found.rows, "row")} of {many(len(found.columns), "column")}, '
        f'{held}.</p><div class="tiles">{"".join(tiles)}</div>'
    )


def _attention(found: Profile) -> str:
    items = [
        f'<li class="bad"><b>{escape(leak.column)}</b> {escape(leak.reason)}</li>'
        for leak in found.leaks
    ]
    for column in found.columns:
        if column.outliers is not None and column.outliers.verdict == "quality":
            said = "; ".join(column.outliers.reasons)
            items.append(f"<li><b>{escape(column.name)}</b> {escape(said)}</li>")
    items += [f"<li><b>{escape(n)}</b> has one value in every row</li>" for n in found.constant]
    listed = f'<ul class="findings">{"".join(items)}</ul>' if items else ""
    words = "Leaks first, then values that look like mistakes, and columns that say nothing."
    return section("What wants attention", words, listed)


def _columns(found: Profile) -> str:
    cards = "".join(_card(column, column.name in found.personal) for column in found.columns)
    words = (
        "Bars are equally wide between the 1 % and the 99 % quantile; what lies beyond is in the "
        "first and the last. The dotted line is the median."
    )
    return section("Columns", words, f'<div class="columns">{cards}</div>' if cards else "")


def _card(column: ColumnProfile, is_personal: bool) -> str:
    picture = _picture(column)
    facts = "".join(f'<p class="facts">{words}</p>' for words in _facts(column))
    kind = f"{column.kind}, personal" if is_personal else column.kind
    return (
        f'<div class="column"><h3>{escape(column.name)}<small>{kind}</small></h3>'
        f"{picture}{facts}</div>"
    )


def _picture(column: ColumnProfile) -> str:
    if column.numbers is not None and column.distinct > 2:
        return histogram(column, column.numbers)
    return "" if _is_name(column) or not column.top else top_values(column)


def _is_name(column: ColumnProfile) -> bool:
    """Whether nearly every row has a value of its own: pictures of those say nothing."""
    return column.kind == "string" and column.distinct > 0.9 * (column.rows - column.missing) > 20


def _facts(column: ColumnProfile) -> Iterator[str]:
    gaps = f"<b>{column.missing_share:.1%} missing</b>" if column.missing else "none missing"
    yield f"{gaps} · {many(column.distinct, 'different value')}"
    if column.distinct and not column.top:
        yield "its values are not shown"
        return
    numbers, kind = column.numbers, column.kind
    if numbers is not None and column.distinct > 2:
        span = numbers.quantiles[-1] - numbers.quantiles[0]
        first, middle, last = (written(numbers.quantiles[n], kind, span) for n in (0, 4, 8))
        yield f"from {first} to {last}, half below {middle}"
        if kind != "timestamp":
            skewness = f"skewness {numbers.skewness:.2g}".replace("-", "−")
            parts = [f"mean {written(numbers.mean, kind)}", skewness]
            parts += [f"{numbers.zeros:,} zeros"] if numbers.zeros else []
            parts += [f"{numbers.negatives:,} negative"] if numbers.negatives else []
            parts += [f"{numbers.infinite:,} infinite"] if numbers.infinite else []
            yield " · ".join(parts)
    elif _is_name(column) and column.top:
        yield escape("such as " + ", ".join(str(top.value) for top in column.top[:3]))
    elif column.words is not None and column.words >= 2:
        yield f"{column.words:.1f} words on average"
    if column.outliers is not None:
        yield _outliers(column)


def _outliers(column: ColumnProfile) -> str:
    found = column.outliers
    if found is None:
        return ""
    words = f"{found.rows:,} far out ({found.share:.2%}): " + (
        "; ".join(found.reasons) or "far from the others, and not a long tail"
    )
    examples = ", ".join(written(value, column.kind) for value in found.examples)
    style = "bad" if found.verdict == "quality" else ""
    return f'<span class="{style}">{escape(words)}</span>; such as {escape(examples)}'


def _knowledge(found: Profile) -> str:
    suspects = {leak.column for leak in found.leaks}
    known = sorted(found.knowledge.items(), key=lambda pair: -pair[1].auc)
    rows = [
        Bar(name, max(told.auc - 0.5, 0.0), f"{told.auc:.3f}", "away" if name in suspects else "s0")
        for name, told in known
    ]
    words = (
        "How well each column alone ranks the label (area under the curve), learned on half of the "
        "rows and judged on the other. A bar of no length is 0.5: chance."
    )
    picture = bars(rows, "What each column knows about the label")
    return section("What each column knows about the label", words, figure("", picture))


def _missing(found: Profile) -> str:
    words = (
        "Each line is a combination of columns that are missing in the same rows, with the share "
        "and number of those rows."
    )
    return section("Missing together", words, figure("", patterns(found.missing_patterns)))


def _twins(found: Profile) -> str:
    rows = [
        (
            escape(pair.columns[0]), f"{{words}}{escape(pair.columns[1])}",
            f"{{words}}{RELATIONS[pair.relation]}", f"{pair.strength:.3f}".replace("-", "−"),
        )
        for pair in found.near_duplicates
    ]  # fmt: skip
    head = ("column", "{words}and", "{words}are", "strength")
    return section("Nearly the same", "Pairs of which one column would do.", table(head, rows))


def _advice(found: Profile) -> str:
    actions = {"leave_out": "leave it out", "keep": "keep it as it is", "derive": "derive others"}
    rows = []
    for column, advice in found.suggestions.items():
        for place, one in enumerate(advice):
            said = f"<code>{escape(one.code)}</code>" if one.code else actions[one.action]
            name = escape(column) if not place else ""
            rows.append((name, f"{{words}}{said}", f"{{words}}{escape(one.reason)}"))
    words = "In order; what is code can be written among a model's transforms."
    return section("What to do", words, table(("column", "{words}do", "{words}why"), rows))


def _foot(name: str) -> str:
    said = f"Made by <code>homeostat features profile {escape(name)} --html FILE</code>."
    return f"<footer>{said} Pairs of columns are compared on a sample of the rows.</footer>"
