"""The catalogue tells where a feature comes from, who uses it, and what it costs; truly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.declare.system import System
from homeostat.features.keys import view_prefix
from homeostat.runtime.catalogue import Catalogue
from homeostat.runtime.home import Home
from homeostat.runtime.lineage import definition_of, definitions
from homeostat.runtime.loading import load_system
from homeostat.runtime.reading import present
from homeostat.testing.toy_home import Commands

CHANGED = """\
from dataclasses import replace

from homeostat import col
from homeostat.testing.toy_home import patient_toy

cards, merchants = patient_toy().views
changed = replace(merchants, where=col("merchant") != "x")
system = replace(patient_toy(), views=(cards, changed))
"""


def shown(commands: Commands, feature: str) -> dict[str, Any]:
    found: dict[str, Any] = commands("features", "show", feature, "--json").json
    return found


@contextmanager
def opened(commands: Commands) -> Iterator[tuple[System, Home]]:
    """Open a home; no command can be given meanwhile, for a process opens its store once."""
    system = load_system(commands.folder / "system.py")
    home = Home(commands.folder / "state", system)
    yield system, home
    home.close()


def test_importance_and_gaps_are_those_of_the_package(lived: Commands) -> None:
    with opened(lived) as (_, home):
        package = home.registry.load("fraud", 3)
    ranks = {}
    for row in lived("features", "list", "--json").json:
        [use] = row["uses"]
        assert (use["model"], use["version"], use["stands"]) == ("fraud", 3, "champion")
        assert use["importance"] == package.importance[row["feature"]]
        assert use["features"] == 8
        ranks[row["feature"]] = use["rank"]
    order = sorted(ranks, key=lambda name: ranks[name])
    gains = [package.importance[name] for name in order]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > gains[-1]


def test_missing_values_are_counted_where_they_were(lived: Commands) -> None:
    with opened(lived) as (system, home):
        names = system.model("fraud").feature_names()
        frames = list(home.predictions.newest_first("fraud"))
        rows = home.registry.load("fraud", 3).lineage.parts["train"]["rows"]
    mine = pl.concat(frames).filter(pl.col("version") == 3)["features"].to_list()
    place = names.index("cards__amount_mean_1d")
    [use] = shown(lived, "cards__amount_mean_1d")["uses"]
    assert use["predictions"] == len(mine)
    assert use["missing_now"] == pytest.approx(np.mean([np.isnan(row[place]) for row in mine]))
    assert 0 < use["missing_now"] < use["missing_then"] < 0.2
    assert use["missing_then"] * rows == pytest.approx(round(use["missing_then"] * rows))
    [counted] = shown(lived, "cards__count_1h")["uses"]
    assert counted["missing_now"] == 0.0


def test_the_cost_is_that_of_the_records(lived: Commands) -> None:
    with opened(lived) as (system, home), home.store.writer() as writer:
        pairs = list(writer.scan(view_prefix(system.view("cards"))))
    cost = shown(lived, "cards__count_1h")["cost"]
    assert (cost["records"], cost["bytes"]) == (
        len(pairs), sum(len(key) + len(value) for key, value in pairs)
    )  # fmt: skip
    assert (cost["features"], cost["measured"]) == (4, 40)
    assert 0.1 < cost["read_us"] < 100_000
    assert shown(lived, "times_usual")["cost"] is None


def test_lineage_goes_to_the_fields_of_events(lived: Commands) -> None:
    share = shown(lived, "merchants__fraud_share_2d")
    found = share["lineage"]
    assert (found["source"], found["keys"], found["window"]) == ("verdicts", ["merchant"], "2d")
    assert found["fields"] == ["fraud", "judged_at"]
    assert found["condition"] == "fraud == True"
    assert found["text"] == "share(fraud == True) over 2d"
    computed = shown(lived, "times_usual")["lineage"]
    assert computed["inputs"] == ["amount", "cards__amount_mean_1d"]
    assert (computed["fields"], computed["source"]) == (["amount"], "request")
    newest = lived("sql", "select max(_known_time) as t from verdicts", "--json").json[0]["t"]
    assert share["last_known"] == newest
    assert share["age_us"] > 0


def test_a_changed_definition_is_told_and_remembered(own: Commands) -> None:
    feature = "merchants__fraud_share_2d"
    before = shown(own, feature)
    (own.folder / "system.py").write_text(CHANGED)
    waiting = shown(own, feature)
    assert (before["applied"], waiting["applied"]) == (True, False)
    assert waiting["hash"] != before["hash"]
    assert [former["declared_now"] for former in waiting["history"]] == [False]
    assert "run `homeostat apply`" in own("features", "show", feature).out
    assert shown(own, "cards__count_1h")["applied"]
    assert own("apply").status == 0
    assert own("train", "fraud").status == 0
    after = shown(own, feature)
    assert after["applied"]
    assert after["lineage"]["condition"] == "(merchant != 'x') and (fraud == True)"
    assert [(former["hash"], former["declared_now"]) for former in after["history"]] == [
        (before["hash"], False), (after["hash"], True)
    ]  # fmt: skip
    assert after["history"][0]["versions"] == ["fraud@1", "fraud@2", "fraud@3"]
    assert after["history"][1]["versions"] == ["fraud@4"]
    assert "another definition" in own("features", "show", feature).out


def test_a_person_reads_it(lived: Commands) -> None:
    head, *lines = lived("features", "list").out.splitlines()
    assert head.split() == [
        "feature", "definition", "per", "from", "models", "gain", "missing", "newest"
    ]  # fmt: skip
    assert ["cards__amount_mean_1d", "mean(amount)", "over", "1d", "card", "payments", "fraud"] in [
        line.split()[:7] for line in lines
    ]
    told = lived("features", "show", "cards__amount_mean_1d").out
    for words in ("payments.amount, payments.asked_at", "per        card (card), in view cards",
                  "known more than 1h late", "shared by 4 features", "measured now",
                  "fraud@1, fraud@2, fraud@3", "1.1%  5 of 8  5.3%"):  # fmt: skip
        assert words in told
    wrong = lived("features", "show", "cards__count_2h")
    assert (wrong.status, "Did you mean 'cards__count_1h'" in wrong.err) == (1, True)


def test_without_a_home_the_declarations_are_told(fresh: Commands) -> None:
    rows = fresh("features", "list", "--json").json
    assert len(rows) == 6
    assert "uses" not in rows[0]
    assert "mean(amount) over 1d" in fresh("features", "list").out
    found = fresh("features", "show", "cards__count_1h")
    assert (found.status, "there is none" in found.err) == (1, True)


def test_a_home_without_models_or_answers(fresh: Commands) -> None:
    fresh.ingest()
    found = shown(fresh, "cards__count_1h")
    assert (found["uses"], found["history"]) == ([], [])
    assert found["cost"]["records"] == 40


def test_the_console_gets_the_same_data(lived: Commands) -> None:
    with opened(lived) as (system, home):
        catalogue = Catalogue(system, home, present(home))
        listed = [entry.definition for entry in catalogue.entries()]
        entry = catalogue.entry("cards__count_1d")
    assert listed == list(definitions(system))
    assert entry.definition == definition_of(system, "cards__count_1d")
    assert entry.cost is not None
