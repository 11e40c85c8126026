"""The demonstration: a production model lives through eight months of real flights.

The year's events go into the log, each with the instant at which it became known, and some bad ones
among them. January to April is history. From May on, every flight is asked about at its scheduled
departure by the code that serves live; outcomes arrive when they did, and the loop retrains, rolls
out and rolls back on its own. In August an engineer submits a model that looks excellent.

    python -m examples.flights.demo [--home build/demo/home] [--until 2013-06-15] [--fresh]

Stopped at any moment and run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console

from examples.flights import data
from examples.flights.disturb import disturbed
from homeostat.console.progress import ReplayDisplay
from homeostat.console.report import render
from homeostat.console.terminal import print_summary
from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.evaluate.metrics import auc
from homeostat.features.assemble import Features
from homeostat.monitor.labels import matured
from homeostat.runtime.applying import NotApplied, ensure_applied
from homeostat.runtime.home import Home
from homeostat.runtime.loading import load_system
from homeostat.runtime.lock import HomeLock
from homeostat.runtime.loop import Intervention
from homeostat.runtime.replay import Progress, Schedule, replay
from homeostat.runtime.summary import peak_rss_mb, summarize
from homeostat.runtime.training import Alteration
from homeostat.train.outcomes import outcome_columns

ROOT = Path(__file__).parents[2]
DAY: Micros = 86_400_000_000
WEEK = 7
CHUNK = 50_000
WIDTH = 120
ZONE = "America/New_York"

# Nights are quiet: no flight is due between midnight and five.
START = datetime(2013, 5, 1, 5, tzinfo=UTC)
END = datetime(2014, 1, 1, 5, tzinfo=UTC)
SUBMITTED = datetime(2013, 8, 18, 5, tzinfo=UTC)

IMPORTED, SPENT = "imported.json", "spent.json"


def fair_weather(model: Model) -> Alteration:
    """Return the mistake of the harmful challenger: weather of the hour the plane really left.

    A flight that a storm holds back leaves when the storm is over. Whoever joins the weather to
    the actual departure, and not to what was known when the question was asked, teaches the model
    that planes in fine weather are late; and tests it on the same tables, where it shines.
    """
    rain, sight = (
        [
            n
            for n, name in enumerate(model.feature_names())
            if name.startswith(f"airport_weather__{w}")
        ]
        for w in ("precipitation", "visibility")
    )

    def altered(features: Features, late: NDArray[np.bool_]) -> Features:
        matrix = features.matrix.copy()
        for column in rain:
            matrix[late, column] = 0.0
        for column in sight:
            matrix[late, column] = 10.0
        return Features(matrix, features.categories)

    return altered


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; return the exit status."""
    parser = argparse.ArgumentParser(prog="examples.flights.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--home", type=Path, default=Path("build/demo/home"))
    parser.add_argument("--until", type=_date, default=END, help="the last day asked about")
    parser.add_argument("--fresh", action="store_true", help="begin again, not where it stopped")
    given = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    if given.fresh and given.home.exists():
        shutil.rmtree(given.home)
    try:
        return _run(console, given.home, min(given.until, END))
    except NotApplied:
        console.print(f"{given.home} was made by other declarations: run this with --fresh")
        return 1
    except (data.DataMissing, HomeostatError) as problem:
        console.print(str(problem), style="red", soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped. The same command goes on from here; --fresh begins again.")
        return 130


def _run(console: Console, folder: Path, until: datetime) -> int:
    path = ROOT / "examples" / "flights" / "system.py"
    system = load_system(path)
    lock = HomeLock(folder)
    home = Home(folder, system, sync=False)
    spent = _Spent(folder / SPENT)
    try:
        ensure_applied(home, system)
        with spent.on("log"):
            _import(console, home)
        schedule = _schedule(until)
        with spent.on("replay"):
            _replay(console, home, schedule)
        with spent.on("summary"), console.status("Auditing every prediction"):
            seconds = spent.seconds["replay"]
            summary = summarize(system, home, schedule, zone=ZONE, seconds=seconds)
            summary["commands"] = _commands(home, path)
    finally:
        home.close()
        lock.release()
    summary["phases"] = spent.seconds
    summary["peak_rss_mb"] = spent.peak_rss_mb
    written = _write(summary, folder.parent)
    print_summary(summary, console)
    for name in written:
        console.print(f"  {name}", style="cyan", soft_wrap=True)
    return 0


class _Spent:
    """What the demonstration took so far, over all its interruptions."""

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if path.exists() else {}
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.peak_rss_mb: float = kept.get("peak_rss_mb", 0.0)

    @contextmanager
    def on(self, phase: str) -> Iterator[None]:
        """Add what the block takes to a phase."""
        began = monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + monotonic() - began
            self.peak_rss_mb = max(self.peak_rss_mb, peak_rss_mb())
            kept = {"seconds": self.seconds, "peak_rss_mb": self.peak_rss_mb}
            self._path.write_text(json.dumps(kept))


def _import(console: Console, home: Home) -> None:
    """Bring the year into the log; an import that was cut off goes on where it stopped."""
    marker = home.folder / IMPORTED
    if marker.exists():
        return
    records: dict[str, int] = {}
    with console.status("Reading a year of flights"):
        for sent in disturbed(home.system, data.tables()):
            done = home.log.end(sent.source).next_offset
            # What becomes known after the end is left to whoever serves the home from there on.
            total = int(np.searchsorted(sent.known, to_micros(END), side="left"))
            for begin in range(done, total, CHUNK):
                part = slice(begin, min(begin + CHUNK, total))
                home.log.append(sent.source, sent.known[part].tolist(), sent.payloads[part])
            records[sent.source] = total
    marker.write_text(json.dumps(records))
    told = ", ".join(f"{number:,} {source}" for source, number in records.items())
    console.print(f"In the log: {told}", style="dim", soft_wrap=True)


def _schedule(until: datetime) -> Schedule:
    """Return days from May on; the labels of the last day and a half are not final at the end."""
    return Schedule(to_micros(START), to_micros(until), DAY, flush_every=WEEK)


def _replay(console: Console, home: Home, schedule: Schedule) -> None:
    system = home.system
    model = system.deployments[0].model
    harmful = Intervention(
        to_micros(SUBMITTED), model.name, "weather at the actual departure", fair_weather(model)
    )
    with ReplayDisplay(console) as display:
        logged = home.predictions.frames(model.name, columns=["at"])
        display.catch_up(home.journal.decisions(), sum(frame.height for frame in logged))

        def told(progress: Progress) -> None:
            display.told(progress)
            if progress.step and schedule.span(progress.step).flush:
                display.quality(_recent_auc(home, model, progress))

        replay(system, home, schedule, interventions=[harmful], progress=told)


def _recent_auc(home: Home, model: Model, progress: Progress) -> float:
    """Return the ROC-AUC of the final labels of two weeks; the lake was just committed."""
    begin = progress.at - (2 * WEEK + 2) * DAY
    columns = ["prediction_id", "at", "request_id", "request", "score"]
    asked = list(home.predictions.frames(model.name, begin, columns=columns))
    label = model.label
    outcomes = home.lake.read(
        label.outcome.name, outcome_columns(label), known_from=progress.at - 3 * WEEK * DAY
    )
    final = matured(pl.concat(asked), outcomes, label, progress.at) if asked else None
    if final is None or not final.height:
        return float("nan")
    return auc(final["score"].to_numpy(), final["label"].to_numpy())


def _commands(home: Home, system: Path) -> list[str]:
    """Return what to try next, with a real flight of the last day."""
    model = home.system.deployments[0].model
    last = next((f for f in home.predictions.newest_first(model.name) if f.height), None)
    if last is None:
        return []
    flight = last.row(last.height // 2, named=True)
    command = _relative(Path(sys.executable).parent / "homeostat")
    at_home = f"--system {_relative(system)} --home {_relative(home.folder)}"
    url = f"localhost:8000/predict/{model.name}?reasons=true"
    return [
        f"{command} run --clock replay {at_home} --port 8000",
        f"curl -s '{url}' -d {shlex.quote(flight['request'])}",
        f"{command} receipt {flight['prediction_id']} {at_home}",
        f'{command} sql "select carrier, count(*) from departures group by 1" {at_home}',
        f"{command} rollback {model.name} {at_home}",
    ]


def _write(summary: Mapping[str, Any], folder: Path) -> list[str]:
    machine, page = folder / "summary.json", folder / "report.html"
    machine.write_text(json.dumps(summary, indent=1, allow_nan=False), encoding="utf-8")
    page.write_text(render(summary), encoding="utf-8")
    return [_relative(page), _relative(machine)]


def _relative(path: Path) -> str:
    here = Path.cwd()
    absolute = path if path.is_absolute() else here / path
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(path)


def _date(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(hour=START.hour, tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
