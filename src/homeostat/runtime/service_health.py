"""Whether a model's versions in service answer: what keeps each from it, and what the log shows."""

from __future__ import annotations

from collections.abc import Container, Iterable

import polars as pl

from homeostat.core.durations import Micros
from homeostat.features.definitions import Definitions
from homeostat.features.keys import view_stem
from homeostat.features.manifest import Bound
from homeostat.runtime.definitions import DefinitionLog
from homeostat.runtime.filled import filled_stems
from homeostat.runtime.home import Home
from homeostat.runtime.in_service import Serving, kept_views
from homeostat.runtime.prediction_history import PredictionHistory

__all__ = ["NOTHING", "advice_on", "made_from", "problems", "silent", "unfilled"]

NOTHING = ("model_broken", "features_broken", "calls_held")
"""Degradations under which the champion gave no answer though it was to."""

LAST, FEWEST = 50, 5
"""A champion answers nothing if it gave none of the last so many answers, at least `FEWEST`."""

SPANS = (600_000_000, 86_400_000_000)
"""So far back the last answers are looked for: a day where ten minutes have too few."""

COLUMNS = ("at", "arm", "version", "degraded")


def silent(history: PredictionHistory, model: str, version: int, now: Micros | None = None) -> int:
    """Return how many of the last answers the champion should have given, and gave none; else 0.

    Args:
        history: the predictions of a home.
        model: the model.
        version: its champion.
        now: looks back from there; None for the last prediction.
    """
    at = history.last(model) if now is None else now
    if at is None:
        return 0
    rows = pl.DataFrame(schema={"arm": pl.String, "degraded": pl.String, "version": pl.Int32})
    for span in SPANS:
        frames = list(history.frames(model, at - span, at + 1, COLUMNS))
        if frames:
            rows = pl.concat(frames).sort("at").tail(LAST)
        if rows.height >= FEWEST:
            break
    seen = 0
    for arm, by, causes in rows.select("arm", "version", "degraded").reverse().iter_rows():
        if arm == "challenger":
            continue
        broken = any(cause in (causes or "") for cause in NOTHING)
        if not broken or (arm == "champion" and by == version):
            break
        seen += 1
    return seen if seen >= FEWEST else 0


def made_from(frame: pl.DataFrame, bound: Bound, kept: DefinitionLog) -> pl.DataFrame:
    """Return the predictions whose logged features are those of `bound`, in their order.

    What was logged before predictions carried their definitions counts as such.
    """
    wanted = list(Definitions.of(bound.system, bound.model).features.items())
    digests = frame["definitions"].drop_nulls().unique().to_list()
    if len(digests) == 1 and digests[0] == Definitions.of(bound.system, bound.model).digest:
        return frame
    found = {digest: kept.find(digest) for digest in digests}
    mine = [d for d, known in found.items() if known and list(known.features.items()) == wanted]
    column = pl.col("definitions")
    return frame.filter(column.is_null() | column.is_in(mine))


def advice_on(one: Serving, served: Iterable[Serving], broken: Container[str]) -> str:
    """Return what lets a model answer again, whose version in service cannot.

    Args:
        one: the version.
        served: all versions in service.
        broken: the names of those that cannot answer.
    """
    served = tuple(served)
    works = {s.role: s.name for s in served if s.model == one.model and s.name not in broken}
    together = {one.name: None}
    if one.lost:  # they are refused together, so they are given up together
        together = {s.name: None for s in served if s.lost and not s.given_up} or together
    names = " ".join(f"--give-up {name}" for name in together)
    give_up = f"give {one.name} up with `homeostat apply {names} --reason WHY`"
    if one.lost:
        mend = f"{one.lost[0].advice}, and run `homeostat apply`"
    elif one.bound is None:
        mend = f"restore packages/{one.name} from a copy"
    else:
        return (
            "run `homeostat apply`, which fills live features that are missing; or restore "
            f"packages/{one.name} from a copy"
        )
    if one.role == "challenger" and not one.lost:
        return f"{mend}; or withdraw it with `homeostat rollback {one.model}`"
    if one.role == "challenger":
        return f"{mend}; or {give_up}: the champion goes on answering"
    if one.role == "previous":
        return f"{mend}; or {give_up}: the champion goes on answering, without a way back"
    if "challenger" in works:
        then = (
            f"{works['challenger']}, its challenger, takes its place at the loop's next step, if "
            "requests bring the fields that it reads (`/ready` names those that it waits for)"
        )
    else:
        train = f"`homeostat train {one.model}`"
        then = f"a version trained with {train} takes its place as soon as its gates hold"
    if one.given_up:
        return f"it was given up: {then}; or {mend}"
    if "previous" in works and "challenger" not in works and not one.lost:
        mend += f"; or go back to {works['previous']} with `homeostat rollback {one.model}`"
    return f"{mend}; or {give_up}: {then}"


def unfilled(home: Home, bound: Bound) -> list[str]:
    """Return the views, by name, whose live features a version reads and nothing has filled yet."""
    with home.store.reader() as reader:
        filled = filled_stems(reader)
    kept = kept_views(home.system, [bound])
    return [view.name for view in kept if view_stem(view) not in filled]


def problems(home: Home, served: Iterable[Serving]) -> dict[str, str]:
    """Return why versions in service cannot answer, by their names; none for those that can."""
    from homeostat.train.servable import Servable

    found: dict[str, str] = {}
    for one in served:
        if one.bound is None:
            found[one.name] = str(one.problem)
            continue
        lacking = unfilled(home, one.bound)
        if lacking:
            found[one.name] = (
                f"the live features of {', '.join(lacking)}, as it was trained with, are missing; "
                "fill them with `homeostat apply`"
            )
            continue
        try:
            Servable(home.registry.load(one.model, one.version))
        except Exception as broken:  # noqa: BLE001 - whatever is wrong with it is the finding
            found[one.name] = str(broken)
    return found
