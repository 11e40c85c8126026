"""Names that the lake or the warehouse could not tell apart are refused where they are declared."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.clock import ManualClock, to_micros
from homeostat.core.errors import DeclarationError, SystemInvalid
from homeostat.declare.mistakes import collecting
from homeostat.ingest.schema_evolution import SchemaIncompatible
from homeostat.runtime.applying import apply_changes
from homeostat.runtime.home import Home
from homeostat.testing.payments import payments

AT = datetime(2024, 3, 4, tzinfo=UTC)


def event(**fields: object) -> type[hs.Event]:
    return type("Tap", (hs.Event,), {"__annotations__": {"id": str, "at": hs.Timestamp, **fields}})


def source(name: str = "taps", **fields: object) -> hs.EventSource:
    return hs.EventSource(
        name, event(**fields), event_id="id", event_time="at", lateness="52w", clock_skew="52w"
    )


def view(name: str, feature: str, taps: hs.EventSource | None = None) -> hs.FeatureView:
    return hs.FeatureView(
        name, hs.Entity("card", key="card"), taps or source(card=str),
        (hs.count().over("1h").named(feature),),
    )  # fmt: skip


def clock(day: int = 0) -> ManualClock:
    return ManualClock(to_micros(AT) + day * 86_400_000_000)


@given(name=st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), data=st.data())
@settings(max_examples=60, deadline=None)
def test_names_that_differ_by_case_alone(name: str, data: st.DataObject) -> None:
    other = "".join(data.draw(st.sampled_from([c, c.upper()])) for c in name)
    if other == name or name in ("id", "at", "schema"):
        return
    with pytest.raises(DeclarationError, match="by case alone"):
        event(**{name: str, other: str})
    with pytest.raises(SystemInvalid, match=f"{other!r}: it differs from {name!r} by case alone"):
        hs.System("s", sources=(source(name), source(other)))
    taps = source(card=str)
    with pytest.raises(SystemInvalid, match="by case alone"):
        hs.System("s", sources=(taps,), views=(view(name, "n", taps), view(other, "m", taps)))
    with pytest.raises(DeclarationError, match="by case alone"):
        hs.FeatureView(
            "v", hs.Entity("card", key="card"), taps,
            (
                hs.count().over("1h").named(name),
                hs.count(where=hs.col("card") == "x").over("1h").named(other),
            ),
        )  # fmt: skip


@pytest.mark.parametrize("name", ["decisions", "metrics", "dead_letters", "Metrics", "raw_taps"])
def test_tables_that_are_there_already(name: str) -> None:
    with pytest.raises(SystemInvalid, match=f"event source {name!r}: .* under that name"):
        hs.System("s", sources=(source(), source(name)))


def test_the_columns_of_two_features_are_told_apart() -> None:
    taps = source(card=str)
    wrong = (view("a__b", "c", taps), view("a", "b__c", taps))
    with pytest.raises(SystemInvalid, match=r"a.b__c_1h: its column .* is that of a__b.c_1h"):
        hs.System("s", sources=(taps,), views=wrong)
    for pair in itertools.permutations((view("a__b", "c", taps), view("a", "c", taps))):
        assert len(hs.System("s", sources=(taps,), views=pair).views) == 2


def test_a_field_may_have_been_called_the_same_in_capitals(tmp_path: Path) -> None:
    taps = source(amount=Annotated[float | None, hs.Alias("Amount")])
    with hs.open(hs.System("s", sources=(taps,)), tmp_path, clock()) as app:
        app.ingest("taps", [{"id": "a", "at": AT, "Amount": 1.0}])
        assert app.sql("SELECT amount FROM taps").rows() == [(1.0,)]


def applied(folder: Path, system: hs.System) -> None:
    home = Home(folder, system)
    try:
        apply_changes(home, system)
    finally:
        home.close()


def test_a_field_is_not_renamed_to_itself_in_capitals(tmp_path: Path) -> None:
    before = hs.System("s", sources=(source(amount=float | None, note=str | None),))
    with hs.open(before, tmp_path, clock()) as app:
        app.ingest("taps", [{"id": "a", "at": AT, "amount": 1.0}])
    renamed = source(Amount=Annotated[float | None, hs.Alias("amount")], note=str | None)
    with pytest.raises(SchemaIncompatible, match="'amount', which differs by case alone"):
        applied(tmp_path, hs.System("s", sources=(renamed,)))
    applied(tmp_path, hs.System("s", sources=(source(note=str | None),)))  # dropped
    again = source(AMOUNT=float | None, note=str | None)
    with pytest.raises(SchemaIncompatible, match="'amount', which differs by case alone"):
        applied(tmp_path, hs.System("s", sources=(again,)))
    applied(tmp_path, before)  # its own name is no twin
    with hs.open(before, tmp_path, clock(1)) as app:
        assert app.sql("SELECT amount FROM taps").rows() == [(1.0,)]


def test_a_source_is_not_renamed_to_itself_in_capitals(tmp_path: Path) -> None:
    with hs.open(hs.System("s", sources=(source("sales"),)), tmp_path, clock()) as app:
        app.ingest("sales", [{"id": "a", "at": AT}])
    other = hs.System("s", sources=(source("Sales"),))
    with pytest.raises(SchemaIncompatible, match="source 'Sales': the lake has the table 'sales'"):
        applied(tmp_path, other)


def test_a_request_has_no_column_of_the_training_set() -> None:
    model = payments().models[0]
    asked = model.label.predicts
    kinds = {"__annotations__": {**asked.event.__annotations__, "Label": bool | None}}
    spoilt = replace(asked, event=type("Asked", (hs.Event,), kinds))
    label = replace(model.label, predicts=spoilt)
    broken = replace(model, label=label, features=("amount",), transforms=())
    with pytest.raises(SystemInvalid, match="'Label' has the name of a column of training sets"):
        hs.System("s", sources=(spoilt, label.outcome), models=(broken,))


def test_a_home_with_such_fields_goes_on_after_a_renaming(tmp_path: Path) -> None:
    with collecting():  # declared before they were refused
        broken = hs.System("s", sources=(source(tag=str | None, TAG=str | None),))
    app = hs.open(broken, tmp_path, clock())
    app.ingest("taps", [{"id": "a", "at": AT, "tag": "x", "TAG": "y"}])
    with pytest.raises(Exception, match="Duplicate field name"):
        app.close()
    mended = source(tag=str | None, tag2=Annotated[str | None, hs.Alias("TAG")])
    system = hs.System("s", sources=(mended,))
    applied(tmp_path, system)
    with hs.open(system, tmp_path, clock(1)) as app:
        app.ingest("taps", [{"id": "b", "at": AT, "tag": "z", "TAG": "w"}])
        rows = app.sql("SELECT id, tag, tag2 FROM taps ORDER BY id").rows()
    assert rows == [("a", "x", "y"), ("b", "z", "w")]


def test_events_of_a_source_with_a_reserved_name_are_taken_along(tmp_path: Path) -> None:
    with collecting():
        broken = hs.System("s", sources=(source("metrics", amount=float),))
    with hs.open(broken, tmp_path / "old", clock()) as app:
        app.ingest("metrics", [{"id": "a", "at": AT, "amount": 1.0}])
    table = pl.read_delta(str(tmp_path / "old" / "lake" / "metrics"))
    with hs.open(
        hs.System("s", sources=(source(amount=float),)), tmp_path / "new", clock(1)
    ) as app:
        assert app.ingest("taps", table, known_time="_known_time").accepted == 1
        assert app.sql("SELECT id, amount, _known_time FROM taps").rows() == [("a", 1.0, AT)]


def test_a_system_of_plain_names_is_as_before() -> None:
    taps = source(card=str)
    assert hs.System(
        "s", sources=(taps, replace(taps, name="metric")), views=(view("v", "n", taps),)
    )
