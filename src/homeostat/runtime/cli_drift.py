"""Looks at how far a model's inputs have moved from those it learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from homeostat.core.durations import format_duration
from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import Command, session
from homeostat.runtime.cli_types import SPAN

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from homeostat.core.durations import Micros
    from homeostat.monitor.drift import FeatureDrift

__all__ = ["drift"]


@click.command(cls=Command, short_help="Show how far the inputs have moved since training.")
@click.argument("model")
@click.option("--window", type=SPAN, help="How far back (default: the drift monitor's window).")
def drift(model: str, window: Micros | None) -> None:
    """Show how far the inputs of MODEL have moved from those its champion learned from."""
    here = session()
    with here.home() as (system, home):
        from homeostat.declare.monitors import Drift
        from homeostat.monitor.drift import drift_report
        from homeostat.monitor.logged import logged_features
        from homeostat.monitor.sketch import Sketch, sketch_like
        from homeostat.runtime.cli_home import predictions_of, standing
        from homeostat.runtime.reading import present

        declared = system.deployment(model).model
        found = [m for m in system.monitors if isinstance(m, Drift) and m.model == declared]
        monitor = found[0] if found else Drift(declared)
        span = monitor.window_us if window is None else window
        champion = standing(home, model).champion
        recent = _since(predictions_of(home, declared), present(home) - span)
        if champion is None:
            raise NoChampion(model)
        if not recent.height:
            raise NothingRecent(model, format_duration(span))
        package = home.registry.load(model, champion)
        reference = Sketch.from_json(package.reference)
        values, texts = logged_features(recent, package.features, tuple(package.encodings))
        report = drift_report(reference, sketch_like(reference, values, texts))
    rows = [_moved(feature, monitor.psi) for feature in report]
    body = {
        "model": model, "champion": champion, "window_us": span, "bound": monitor.psi,
        "rows": recent.height, "features": rows,
    }  # fmt: skip

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, rows, styles={"verdict": {"moved": "bold red", "too few rows": "dim"}})
        to.print(
            f"{recent.height:,} predictions of the last {format_duration(span)} against the "
            f"training of version {champion}; a PSI above {monitor.psi:g} counts as moved",
            style="dim",
        )

    here.answer(body, show)


class NothingRecent(HomeostatError):
    """A model that was not asked in the window."""

    def __init__(self, model: str, window: str) -> None:
        super().__init__(
            f"drift of {model!r}: no prediction in the last {window}; allowed: a window in which "
            "it answered; widen it with --window"
        )


class NoChampion(HomeostatError):
    """A model that no version answers for."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"model {model!r}: no version answers yet; allowed: a model with a champion; see "
            "`homeostat status`"
        )


def _since(predictions: pl.DataFrame, begin: Micros) -> pl.DataFrame:
    import polars as pl

    from homeostat.core.clock import from_micros

    return predictions.filter(pl.col("at") >= from_micros(begin))


def _moved(feature: FeatureDrift, bound: float) -> dict[str, Any]:
    verdict = "moved" if feature.psi > bound else ""
    if feature.noise > bound:
        verdict = "too few rows"
    return {
        "feature": feature.name,
        "psi": feature.psi,
        "js": feature.js,
        "ks": feature.ks,
        "missing": feature.missing,
        "missing_then": feature.missing_reference,
        "verdict": verdict,
    }
