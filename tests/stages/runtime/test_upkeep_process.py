"""Long audits and compactions run in a process of their own, with the results of this one."""

from __future__ import annotations

import gc
import shutil
import signal
import weakref
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import polars as pl
import pytest

from homeostat.core.clock import ManualClock, from_micros
from homeostat.features.audit import SkewAudit
from homeostat.runtime import live, observe
from homeostat.runtime.app import App
from homeostat.runtime.auditing import Auditor
from homeostat.runtime.in_service import in_roles
from homeostat.runtime.own_process import DeclaredOtherwise, ProcessDied
from homeostat.runtime.upkeep import tidy, untidy
from homeostat.runtime.upkeep_process import UpkeepProcess
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule

END = toy_schedule().end
TOY = "from homeostat.testing.toy import toy_system\nsystem = toy_system()\n"
DIES = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed")
    replay_toy(folder)
    return folder


@pytest.fixture
def app(replayed: Path, tmp_path: Path) -> Iterator[App]:
    folder = Path(shutil.copytree(replayed, tmp_path / "home"))
    with App(toy_system(), folder, ManualClock(END)) as app:
        yield app


def apart(app: App, text: str) -> UpkeepProcess:
    path = app.home.folder.with_name("system.py")
    path.write_text(text)
    return UpkeepProcess(app.system, path, app.home.folder)


def sample(app: App) -> pl.DataFrame:
    """Return the last predictions, one of them with features that it was not given."""
    rows = pl.concat(app.home.predictions.frames("fraud"), how="diagonal").sort("at").tail(60)
    values = rows["features"].to_list()
    values[5] = [one + 1 for one in values[5]]
    return rows.with_columns(pl.Series("features", values))


def test_an_audit_apart_finds_what_one_here_does(app: App) -> None:
    rows, model = sample(app), app.system.model("fraud")
    here = Auditor(app.system, app.home).sampled(model, rows)
    found = apart(app, TOY).audit("fraud", rows)
    assert isinstance(found, SkewAudit)
    assert here.different > 0
    assert repr(found) == repr(here)  # bit by bit: a missing value is no other's equal


def test_a_compaction_apart_leaves_what_one_here_does(app: App, tmp_path: Path) -> None:
    lake = app.home.lake
    day = app.home.lake.read("payments").tail(40)
    for n in range(3):  # files of a day that a later one closes
        at = from_micros(END + n * 86_400_000_000)
        more = day.with_columns(
            _known_time=pl.lit(at), _offset=pl.col("_offset") + 10_000 * (n + 1)
        )
        lake.append("payments", more.select(day.columns), "test", n)
    before = lake.read("payments")
    assert untidy(lake) > 0
    apart(app, TOY).compact(Event())
    assert untidy(lake) == 0
    assert lake.read("payments").equals(before)
    tidy(lake)  # nothing is left to do
    assert lake.read("payments").equals(before)


@pytest.mark.parametrize("number", sorted(set(signal.Signals)))
def test_each_signal_has_its_name_and_only_a_kill_is_put_down_to_memory(
    number: signal.Signals,
) -> None:
    told = str(ProcessDied("training", -number))
    assert f"killed by {signal.Signals(number).name}; allowed: " in told
    assert ("memory" in told) == (number == signal.SIGKILL)
    native = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
    assert ("native code" in told) == (number in native)


def test_what_a_process_cannot_do_is_told(app: App) -> None:
    with pytest.raises(ProcessDied, match="killed by SIGKILL; allowed"):
        apart(app, DIES).audit("fraud", sample(app))
    with pytest.raises(DeclaredOtherwise, match="cannot be loaded"):
        apart(app, "1 / 0\n").compact(Event())
    stopped = Event()
    stopped.set()
    apart(app, TOY).compact(stopped)  # it is left


@pytest.mark.parametrize("text", [TOY, "1 / 0\n", DIES])
def test_a_step_goes_on_whatever_becomes_of_the_process(
    app: App, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    for module in (live, observe):
        monkeypatch.setattr(module, "LARGE", -1)
    app.live.loop.observer.apart = apart(app, text)
    request = {"payment_id": "q1", "card": "card-1", "merchant": "kiosk", "amount": 9.0}
    app.predict("fraud", request)
    assert isinstance(app.clock.base, ManualClock)
    app.clock.base.advance_to(app.clock.now() + app.timeline.every)
    app.live.tick()
    opened = {str(d.evidence["key"]) for d in app.home.journal.decisions() if d.action == "alert"}
    assert ("unjudged/fraud/skew" in opened) == (text == DIES)
    assert ("upkeep/compaction" in opened) == (text == DIES)
    assert bool(app.live.metrics.last_faults) == (text != TOY)
    app.live.loop.observer.apart = apart(app, TOY)
    app.predict("fraud", {**request, "payment_id": "q2"})
    app.clock.base.advance_to(app.clock.now() + app.timeline.every)
    app.live.tick()
    keys = [d.evidence.get("key") for d in app.home.journal.decisions() if d.action == "clear"]
    assert ("unjudged/fraud/skew" in keys) == (text == DIES)


def test_versions_that_left_service_do_not_stay_loaded(app: App) -> None:
    loop = app.live.loop
    loop.arms.retain("fraud", ())
    held = weakref.ref(loop.arms.package("fraud", 1))
    assert loop.arms.arm("fraud", 1) is not None
    for versions, is_held in (((1, 2), True), ((2,), False)):
        loop.arms.retain("fraud", versions)
        gc.collect()
        assert (held() is not None) == is_held
    assert loop.arms.loads("fraud", 1)  # asked for again, it is loaded again
    held = weakref.ref(loop.arms.package("fraud", 1))
    loop.route("fraud")
    gc.collect()
    assert (held() is not None) == (1 in in_roles(loop.state("fraud")))
