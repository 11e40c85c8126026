"""The request's event loses and renames fields, and clients that were not told are answered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

import homeostat as hs
from homeostat.core.clock import ManualClock
from homeostat.declare.system import System
from homeostat.runtime.app import App
from homeostat.runtime.applying import ServiceLost, apply_changes
from homeostat.runtime.home import Home
from homeostat.serve.repeats import RequestConflict
from homeostat.serve.requests import RequestInvalid, RequestReader
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_home import Commands
from homeostat.testing.toy_replay import replay_toy, toy_schedule

END = toy_schedule().end
ASKED = {"card": "card-1", "merchant": "casino", "amount": 80.0}


class Longer(hs.Event):
    """A payment that says more than anybody reads."""

    payment_id: str
    card: str
    merchant: str
    amount: float
    asked_at: hs.Timestamp
    note: str | None
    floor: int | None


class Renamed(hs.Event):
    """It says less, and calls one field otherwise."""

    payment_id: str
    card: str
    merchant: str
    amount: float
    asked_at: hs.Timestamp
    level: Annotated[int | None, hs.Alias("floor")]
    shop: str = "north"


class Lacking(hs.Event):
    """What the champion reads is gone."""

    payment_id: str
    card: str
    merchant: str
    asked_at: hs.Timestamp


class Counted(hs.Event):
    """What the champion reads is of another kind."""

    payment_id: str
    card: str
    merchant: str
    amount: Annotated[float, hs.Alias("sum")] = 1.0
    asked_at: hs.Timestamp


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replayed") / "state"
    replay_toy(folder)
    with opened(folder, toy_system()):
        pass
    return folder


@contextmanager
def opened(folder: Path, system: System) -> Iterator[App]:
    with App(system, folder, ManualClock(END)) as app:
        yield app


def asking(event: type[hs.Event], *, without: str = "") -> System:
    """Return the toy with another event of its requests, and a model without a field."""
    old = toy_system()
    payments = replace(old.source("payments"), event=event)
    cards, merchants = old.views
    kept = tuple(a for a in cards.aggregations if a.column != without)
    cards = replace(cards, source=payments, aggregations=kept if without else cards.aggregations)
    model = old.model("fraud")
    features: tuple[Any, ...] = model.features
    if without:
        own = [name for name in features if isinstance(name, str) and name != without]
        features = (*cards.all(), *merchants.all(), *own)
    model = replace(model, features=features, label=replace(model.label, predicts=payments))
    deployment = replace(old.deployments[0], model=model)
    code = tuple(f for f in old.model("fraud").features if isinstance(f, hs.OnDemand))
    return System(
        "toy", sources=(payments, old.source("verdicts")), views=(cards, merchants),
        models=(model,), deployments=(deployment,), kept=code if without else (),
    )  # fmt: skip


def apply(folder: Path, system: System) -> None:
    home = Home(folder, system, sync=False)
    try:
        apply_changes(home, system)
    finally:
        home.close()


def test_clients_that_were_not_told_of_a_change_are_answered_as_before(
    replayed: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(replayed, tmp_path / "state"))
    longer, renamed = asking(Longer), asking(Renamed)
    apply(home, longer)
    sent: list[dict[str, Any]] = [
        {"payment_id": "one", **ASKED, "note": "quickly", "floor": 3},
        {"payment_id": "two", **ASKED, "note": None, "floor": None},
        {"payment_id": "three", **ASKED},
    ]
    with opened(home, longer) as app:
        before = app.predict("fraud", sent)
        assert app.live.service.ready().notes == []
    apply(home, renamed)
    with opened(home, renamed) as app:
        service = app.live.service
        assert app.predict("fraud", sent) == before
        assert app.predict("fraud", [{**sent[0], "shop": "north"}]) == before[:1]
        with pytest.raises(RequestConflict, match=r"level: 4, and 3 was asked under the id"):
            app.predict("fraud", {**sent[0], "floor": 4})
        body = json.dumps({"requests": sent}).encode()
        reader = RequestReader(
            renamed, renamed.model("fraud"), lambda: service.needs("fraud"), service.former("fraud")
        )
        assert service.predict("fraud", reader.read(body)[0]) == before
        with pytest.raises(RequestInvalid, match="nota: an unknown field"):
            app.predict("fraud", {**ASKED, "nota": "quickly"})
        with pytest.raises(RequestInvalid, match=r"flor: an unknown .* Did you mean 'floor'"):
            app.predict("fraud", {**ASKED, "flor": 2})
        with pytest.raises(RequestInvalid, match='floor: text "x"; allowed: a whole number'):
            app.predict("fraud", {**ASKED, "floor": "x"})
        (answer,) = app.predict("fraud", {**ASKED, "note": {"any": ["thing"]}, "floor": 2})
        assert (answer.arm, answer.degraded) == ("champion", [])
        notes = service.ready().notes
        assert [note.partition(" had ")[2] for note in notes] == [
            "'floor', the former name of 'level': it is read as that",
            "'note', which is no field any more: it is ignored",
        ]
        for line in ('field="floor"} 7', 'field="note"} 7'):
            assert line in app.live.metrics.text({})
        app.predict("fraud", [ASKED] * 50)
        assert service.ready().notes == []  # clients have stopped
        asked = app.live.service.former("fraud").names
    assert asked == {"floor": "level", "note": ""}


def test_an_answer_that_is_repeated_after_an_apply_has_the_names_and_values_it_was_made_with(
    replayed: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(replayed, tmp_path / "state"))
    request = {"payment_id": "one", **ASKED}
    found = []
    for event, without in ((Longer, ""), (Longer, "amount")):
        system = asking(event, without=without)
        apply(home, system)
        with opened(home, system) as app:
            (answer,) = app.predict("fraud", request, reasons=True)
            assert answer.reasons
            record = app.live.service.prediction(answer.prediction_id)
            assert record is not None
            assert {"times_usual", "merchant", "amount"} < set(record.features)
            found.append((answer, record))
    assert repr(found[0]) == repr(found[1])


@pytest.mark.parametrize(
    ("event", "told"),
    [(Lacking, "field 'amount' is gone"), (Counted, "field 'amount' was a float without default")],
)
def test_a_change_of_what_the_champion_reads_is_refused_and_the_advice_works(
    event: type[hs.Event], told: str, replayed: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(replayed, tmp_path / "state"))
    changed = asking(event, without="" if event is Counted else "amount")
    with pytest.raises(ServiceLost, match=told) as refused:
        apply(home, changed)
    assert refused.value.advice.startswith("leave the field as it was in the event of event source")
    left = asking(Longer, without="amount")  # the field is left in the event; the model reads less
    apply(home, left)
    with opened(home, left) as app:
        (answer,) = app.predict("fraud", ASKED)
        assert (answer.arm, answer.degraded) == ("champion", [])


def test_plan_says_which_former_names_clients_may_go_on_sending(
    replayed: Path, tmp_path: Path
) -> None:
    shutil.copytree(replayed, tmp_path / "state")
    here = Path(__file__)
    text = (
        "import sys\n"
        f"sys.path.insert(0, {str(here.parent)!r})\n"
        f"from {here.stem} import Longer, Renamed, asking\n"
    )
    commands = Commands(tmp_path)
    (tmp_path / "system.py").write_text(text + "system = asking(Longer)\n")
    assert commands("apply").status == 0
    (tmp_path / "system.py").write_text(text + "system = asking(Renamed)\n")
    planned = commands("plan")
    assert planned.status == 0
    assert "requests to 'fraud' may go on bringing 'floor', which is read as 'level'" in planned.out
    assert "may go on bringing 'note', which is no field any more: ignored" in planned.out
    assert commands("plan", "--json").json["former_names"] == [
        {"model": "fraud", "field": "floor", "read_as": "level"},
        {"model": "fraud", "field": "note", "read_as": None},
    ]
