"""A champion that answers nothing is an alert, and is seen wherever one looks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeostat.core.clock import ManualClock
from homeostat.runtime.app import App
from homeostat.runtime.cli_watch import silent_versions
from homeostat.runtime.doctor import service_checks
from homeostat.runtime.noted import Noted
from homeostat.testing.toy import toy_system
from homeostat.testing.toy_replay import replay_toy, toy_schedule
from homeostat.train.servable import Servable

END = toy_schedule().end
MINUTE = 60_000_000


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


def ask(app: App, number: int) -> str:
    assert isinstance(app.clock.base, ManualClock)
    app.clock.base.advance_to(app.clock.now() + MINUTE)
    request = {"payment_id": f"q{number}", "card": "card-1", "merchant": "kiosk", "amount": 9.0}
    return app.predict("fraud", request)[0].arm


def alerts(app: App) -> set[str]:
    found = {d.evidence["key"]: d.action for d in app.home.journal.decisions()
             if d.action in ("alert", "clear")}  # fmt: skip
    return {str(key) for key, action in found.items() if action == "alert"}


def seen(app: App) -> list[bool]:
    """Return whether ready, alerts, status and doctor say that the champion answers nothing."""
    app.step()
    app.live.flush()
    checks = {check.name: check for check in service_checks(app.system, app.home)}
    return [
        any("gave none of the last" in note for note in app.live.service.ready().notes),
        "package/fraud" in alerts(app),
        bool(silent_versions(app.system, app.home, None)),
        checks[f"champion fraud@{app.state('fraud').champion}"].status == "broken",
    ]


def test_a_champion_whose_scores_fail_is_seen_everywhere(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [ask(app, number) for number in range(3)] == ["champion"] * 3
    assert seen(app) == [False] * 4

    def broken(servable: Servable, features: Any) -> Any:
        raise RuntimeError("no score")

    with monkeypatch.context() as patch:
        patch.setattr(Servable, "score", broken)
        assert "champion" not in [ask(app, number) for number in range(3, 10)]
        noted = Noted()
        began = list(noted.lines(app.live.service.ready().notes))
        assert len(began) == 1
        assert "gave none of the last 7 answers" in began[0]
        for number in range(12, 58):
            ask(app, number)
            assert list(noted.lines(app.live.service.ready().notes)) == []
        note = app.live.service.ready().notes[0]
        assert "none of the last 50 answers (at most 50 are looked at)" in note
    assert seen(app) == [True] * 4
    assert [ask(app, number) for number in range(10, 12)] == ["champion"] * 2
    assert seen(app) == [False] * 4
