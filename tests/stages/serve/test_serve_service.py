"""The service in one process: tickets, the recent predictions, and the metrics text."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import pytest

from homeostat.core.errors import UnknownName
from homeostat.serve.answer import Recent
from homeostat.serve.crew import Crew
from homeostat.serve.metrics import Metrics
from homeostat.serve.predictor import Batch
from homeostat.serve.routing import Route
from homeostat.serve.seam import Ticket
from homeostat.testing.drills import FixedScores, HangingScores
from homeostat.testing.payments import NOON, Bench, arm, tap

MakesBench = Callable[..., Bench]


def test_a_call_whose_ticket_is_gone_is_not_even_tried(bench: MakesBench) -> None:
    model = FixedScores(0.75)
    made = bench(Route(champion=arm(model)))
    ticket = Ticket(0)
    assert ticket.claim()
    assert made.service().predict("fraud", [tap(tapped_at=...)], False, ticket) == []
    assert (model.calls, made.log.batches) == (0, [])


def test_an_answer_that_comes_too_late_is_not_logged(bench: MakesBench) -> None:
    ticket = Ticket(0)

    def late(features: Any) -> Any:
        assert ticket.claim()  # the deadline passes now
        return np.full(len(features.matrix), 0.75)

    made = bench(Route(champion=arm(late)))
    assert made.service().predict("fraud", [tap(tapped_at=...)], False, ticket) == []
    assert made.log.batches == []
    assert made.service().prediction("p1") is None


def test_the_end_does_not_wait_for_a_shadow_that_hangs(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    made = bench(Route(champion=arm(0.25), challenger=arm(hanging, 2), shadow=True))
    service = made.service()
    service.predict("fraud", [tap(tapped_at=...)])
    hanging.entered.wait()
    assert made.log.batches == []
    service.close(seconds=0)
    assert [batch.degraded for batch in made.log.batches] == [[["shadow_skipped"]]]
    hanging.release.set()


def test_work_begins_or_is_withdrawn() -> None:
    crew = Crew(1, "test")
    entered, release = Event(), Event()

    def first() -> None:
        entered.set()
        release.wait()

    done: list[int] = []
    running = crew.submit(first)
    entered.wait()
    waiting = [crew.submit(partial(done.append, i)) for i in range(3)]
    assert not crew.withdraw(running)
    assert crew.withdraw(waiting[1])
    assert not crew.withdraw(waiting[1])
    finished = Event()
    crew.submit(finished.set)
    crew.close()
    release.set()
    finished.wait()
    assert done == [0, 2]


def test_a_crew_of_several_is_not_held_up_by_one_that_hangs() -> None:
    crew = Crew(2, "test")
    release, finished = Event(), Event()
    crew.submit(lambda: _wait(release))
    crew.submit(finished.set)
    assert finished.wait(60), "the other thread was not given the job"
    release.set()
    crew.close()


def _wait(release: Event) -> None:
    release.wait()


def test_a_model_that_is_not_deployed_is_named(bench: MakesBench) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'fraud'"):
        bench().service().predict("fruad", [tap(tapped_at=...)])


def test_warming_scores_by_every_arm(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(0.5), previous=arm(float("nan"))))
    assert made.service().warm() == {"fraud": {"champion": True, "previous": False}}


def test_recent_predictions_make_room_oldest_first(bench: MakesBench) -> None:
    route = Route(champion=arm(0.5))
    predictor = bench(route).predictor()
    recent = Recent(3)
    for names in (["a", "b"], ["c", "d"]):
        recent.keep(predictor.answer(None, Batch([tap(), tap()], NOON, names), route))
    assert recent.find("a") is None
    found = recent.find("d")
    assert found is not None
    assert found[1] == 1
    assert recent.find("b") is not None


def test_labels_are_escaped_in_the_metrics_text() -> None:
    metrics = Metrics()
    metrics.fault('a"b\\c\nd', ValueError("x"))
    assert 'part="a\\"b\\\\c\\nd",error="ValueError"} 1' in metrics.text({})


def test_a_histogram_in_the_metrics_text_is_cumulative(bench: MakesBench) -> None:
    made = bench(Route(champion=arm(0.5)))
    service = made.service()
    for i in range(5):
        service.predict("fraud", [tap(tap_id=f"t{i}", tapped_at=...)])
    lines = made.metrics.text({}).splitlines()
    counts = [
        int(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("homeostat_latency_seconds_bucket") and 'component="total"' in line
    ]
    assert counts == sorted(counts)
    assert counts[-1] == 5
    assert made.metrics.latency("fraud", "total").count == 5
