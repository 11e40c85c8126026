"""A system under steady load: the process that tests kill, and whose memory they read.

Run it as `python tests/journeys/steady_load.py HOME SECONDS PREDICTIONS EVENTS [MODE [HISTORY
[EVERY]]]`: so many predictions and events a second, with steps, trainings, audits and compactions
beside them. A new home begins with so many requests of the last half hour, and steps every so many
seconds. Each answer is a line of HOME.answers as soon as it is given. It prints "running" when it
begins, and ends with what it measured, as JSON. HOME.minutes has the figures of each minute, and
HOME.stalls what the threads did when the fold was behind by half a second.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from threading import Event, Thread
from threading import enumerate as threads
from time import sleep, time
from types import FrameType

from homeostat.core.allocators import bound_arenas

if __name__ == "__main__":
    bound_arenas()  # as the server does, before the libraries are loaded

import numpy as np
import polars as pl

import homeostat as hs
from homeostat import col, mean, sum_
from homeostat.core.clock import SystemClock, from_micros
from homeostat.features.folded import folded_offset
from homeostat.runtime.app import App
from homeostat.runtime.prediction_writer import LogPredictions
from homeostat.runtime.timeline import Timeline
from homeostat.runtime.training_process import TrainingProcess
from homeostat.runtime.upkeep_process import UpkeepProcess

EVERY_S = 10
CARDS = 500

STALL_S = 0.5
"""What the threads do is written down when the fold is behind by so much."""

SAMPLE_S = 0.05
SAMPLES = 80
"""So many samples before a stall are written with it."""


class Payment(hs.Event):
    """Somebody asks to pay."""

    payment_id: str
    card: str
    amount: float
    asked_at: hs.Timestamp


class Verdict(hs.Event):
    """Seconds later it is known whether the payment was fraud."""

    payment_id: str
    judged_at: hs.Timestamp
    fraud: bool


def steady_system() -> hs.System:
    """Return a system whose every window is minutes, so that all of it happens in some."""
    payments = hs.EventSource("payments", Payment, event_id="payment_id", event_time="asked_at")
    verdicts = hs.EventSource("verdicts", Verdict, event_id="payment_id", event_time="judged_at")
    cards = hs.FeatureView(
        "cards",
        hs.Entity("card", key="card"),
        payments,
        (hs.count().over("10m", "1h"), sum_("amount").over("10m"), mean("amount").over("1h")),
    )
    label = hs.Label(
        "fraud", predicts=payments, outcome=verdicts, join_on="payment_id",
        value=col("fraud") == True, delay="20s", when_absent=False,  # noqa: E712
    )  # fmt: skip
    model = hs.Model(
        "fraud",
        features=(*cards.all(), "amount"),
        label=label,
        estimator=hs.Estimator("lightgbm:LGBMClassifier", {"n_estimators": 300, "num_leaves": 15}),
        split=hs.Split(validation="15s", test="15s"),
        requirements=hs.Requirements(
            false_positive_cost=1, false_negative_cost=5, gates=(hs.Gate("auc", at_least=0.3),)
        ),
    )
    return hs.System(
        "steady",
        sources=(payments, verdicts),
        views=(cards,),
        models=(model,),
        deployments=(
            hs.Deployment(
                model=model,
                rollout=(hs.Shadow("30s"), hs.Canary((0.3,), every="30s")),
                guards=(hs.Guard("cost", within=0.9, rows=20),),
                degradation=hs.Degradation(score=0.1),
            ),
        ),
        monitors=(
            hs.Freshness(payments, "1m"),
            hs.Drift(model, psi=0.5, window="1m"),
            hs.Skew(model, at_most=300),
            hs.Quality(model, "auc", worse_by=0.3, window="5m", rows=50),
        ),
        retraining=(hs.Retrain(model, every="2m", cooldown="1m"),),
    )


class Stalls:
    """Samples the named threads of the server, and writes the samples around a stall to a file.

    A sample that comes late says by how much: another thread held the interpreter, or the machine
    had no core for it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a")
        self._recent: deque[str] = deque(maxlen=SAMPLES)
        self._stop, self._told = Event(), 0.0
        self._thread = Thread(target=self._sample, name="stalls")
        self._thread.start()

    def tell(self, gap: float) -> None:
        """Write down what was sampled, at most once in two seconds."""
        if time() - self._told > 2:
            self._told = time()
            load = os.getloadavg()[0]
            self._file.write(f"== {time():.2f} gap {gap:.2f} s, load {load:.1f}\n")
            self._file.writelines(list(self._recent))
            self._file.flush()

    def close(self) -> None:
        """End the sampling."""
        self._stop.set()
        self._thread.join()
        self._file.close()

    def _sample(self) -> None:
        due = time() + SAMPLE_S
        while not self._stop.wait(max(due - time(), 0)):
            late, now = time() - due, time()
            due = now + SAMPLE_S
            names = {thread.ident: thread.name for thread in threads()}
            said = [
                f"  {name}: {_where(frame)}\n"
                for ident, frame in sys._current_frames().items()
                if (name := names.get(ident, "")).startswith(("homeostat", "fold"))
            ]
            self._recent.append(f" {now:.2f} late {late:.2f}\n{''.join(sorted(said))}")


def _where(frame: FrameType | None) -> str:
    """Return the inner frames of a stack, innermost first, up to six of ours."""
    found: list[str] = []
    while frame is not None and len(found) < 8:
        path = frame.f_code.co_filename
        if "homeostat" in path or not found:
            found.append(f"{Path(path).stem}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(found)


class Minutes:
    """Writes the figures of each minute as it ends, so that a run that is cut off shows some."""

    def __init__(self, path: Path, load: Load) -> None:
        self._path, self._load, self._asked, self._looked, self._at = path, load, 0, 0, time()

    def tell(self, more: dict[str, object]) -> None:
        """Write down what was measured since the last time, if that was a minute ago."""
        if time() - self._at < 60:
            return
        asking, gaps = self._load.asking[self._asked :], self._load.gaps[self._looked :]
        self._asked, self._looked, self._at = len(self._load.asking), len(self._load.gaps), time()
        said = {**more, "predictions": self._asked, **shares(asking, gaps)}
        with self._path.open("a") as out:
            out.write(json.dumps(said | {"load": round(os.getloadavg()[0], 1)}) + "\n")


def shares(asking: array[float], gaps: array[float]) -> dict[str, object]:
    """Return how long answers took, and how long events waited to be folded."""

    def of(found: array[float], factor: float, digits: int) -> list[float]:
        if not found:
            return []
        return [round(float(q) * factor, digits) for q in np.quantile(found, (0.5, 0.99, 1))]

    return {
        "ask p50/p99/max ms": of(asking, 1e3, 2),
        "fold gap p50/p99/max s": of(gaps, 1, 3),
        "looks at the fold above 0.5 s, 1 s": [sum(g > s for g in gaps) for s in (0.5, 1)],
    }


class Load:
    """Asks and pushes at steady rates, and looks how old the oldest event is that is not folded."""

    def __init__(self, app: hs.App, answers: int, seed: int, stalls: Stalls) -> None:
        self._app, self._answers, self._draw = app, answers, Random(seed)
        self._stalls = stalls
        self._tag, self._serial = f"{os.getpid()}-{seed}", count()
        self._asked: deque[str] = deque(maxlen=20_000)
        self._pushed: deque[tuple[int, float]] = deque()
        self.gaps, self.asking = array("d"), array("d")  # small: the memory is measured

    def payment(self) -> dict[str, object]:
        name = f"{self._tag}-{next(self._serial)}"
        card = f"card-{self._draw.randrange(CARDS)}"
        amount = round(self._draw.expovariate(0.02), 2)
        return {"payment_id": name, "card": card, "amount": amount}

    def ask(self) -> None:
        request, began = self.payment(), time()
        (answer,) = self._app.predict("fraud", request)
        name, now = str(request["payment_id"]), time()
        self.asking.append(now - began)
        self._asked.append(name)
        os.write(self._answers, f"{answer.prediction_id} {name} {now}\n".encode())

    def push(self, events: int) -> None:
        """Push payments of others, and what became of those that were asked about."""
        now = from_micros(self._app.clock.now()).isoformat()
        told = min(len(self._asked), events * 3 // 5)
        others = [{**self.payment(), "asked_at": now} for _ in range(events - told)]
        verdicts = [
            {"payment_id": self._asked.popleft(), "judged_at": now,
             "fraud": self._draw.random() < 0.2}
            for _ in range(told)
        ]  # fmt: skip
        for source, rows in (("payments", others), ("verdicts", verdicts)):
            if rows:
                payloads = [json.dumps(row).encode() for row in rows]
                found = self._app.live.ingest(source, payloads)
                if source == "payments":
                    self._pushed.append((found.first_offset + found.events, time()))

    def look(self) -> None:
        """Note for how long the oldest pushed payments have waited to be folded."""
        with self._app.home.store.reader() as reader:
            folded, now = folded_offset(reader, "payments"), time()
        while self._pushed and self._pushed[0][0] <= folded:
            self.gaps.append(now - self._pushed.popleft()[1])
        if self._pushed:
            self.gaps.append(now - self._pushed[0][1])
            if self.gaps[-1] > STALL_S:
                self._stalls.tell(self.gaps[-1])


def steadily(act: Callable[[], None], a_second: float, stop: Event) -> Thread:
    """Act so many times a second on a thread; what is late is made up for."""

    def run() -> None:
        began, done = time(), 0
        while not stop.is_set():
            due = int((time() - began) * a_second)
            if due <= done:
                stop.wait(1 / a_second)
            for _ in range(min(due - done, 50)):
                act()
                done += 1

    thread = Thread(target=run)
    thread.start()
    return thread


def memory_mb() -> float:
    """Return what this process has allocated, without pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    return 0.0


def import_history(app: hs.App, rows: int) -> None:
    """Import requests of the last half hour, and what became of them a second later."""
    draw, now = np.random.default_rng(1), app.clock.now()
    at = pl.Series(np.sort(now - draw.integers(5_000_000, 1_800_000_000, rows)))
    asked = at.cast(pl.Datetime("us", "UTC"))
    ids, amount = [f"h{n}" for n in range(rows)], draw.exponential(50, rows).round(2)
    cards = [f"card-{n}" for n in draw.integers(0, CARDS, rows)]
    payments = {"payment_id": ids, "card": cards, "amount": amount, "asked_at": asked}
    app.ingest("payments", pl.DataFrame(payments), history=True)
    fraud = draw.random(rows) < np.minimum(amount / 300, 0.9)
    verdicts = {"payment_id": ids, "judged_at": asked.dt.offset_by("1s"), "fraud": fraud}
    app.ingest("verdicts", pl.DataFrame(verdicts), history=True)


def declared_in(home: Path) -> Path:
    """Write the system's file, for trainings in processes of their own, as `homeostat run` does."""
    path = Path(f"{home}_system.py")
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from steady_load import steady_system\nsystem = steady_system()\n"
    )
    return path


def run(
    home: Path, seconds: float, predictions: float, events: int, mode: str, history: int, every: int
) -> dict[str, object]:
    """Load a home for so long, and return what was seen."""
    is_new = not home.exists()
    if is_new:
        home.mkdir(parents=True)
        Timeline(SystemClock().now(), every * 1_000_000).save(home)
    answers = os.open(f"{home}.answers", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    memory: list[tuple[float, float]] = []
    done: dict[str, int] = {}
    log: LogPredictions = "sync" if mode == "sync" else "soon"
    with App(steady_system(), home, log_predictions=log, finish=False) as app:
        if is_new and history:
            import_history(app, history)
        stalls = Stalls(Path(f"{home}.stalls"))
        load, stop, began = Load(app, answers, int(time()), stalls), Event(), time()
        minutes = Minutes(Path(f"{home}.minutes"), load)
        failed: list[str] = []

        def told(pass_: object) -> None:
            if isinstance(pass_, Exception):
                failed.append(repr(pass_))
            else:
                for decision in getattr(pass_, "decisions", ()):
                    done[decision.action] = done.get(decision.action, 0) + 1

        file = declared_in(home)
        trainer = TrainingProcess(app.system, file, home)
        apart = UpkeepProcess(app.system, file, home)
        loop = Thread(target=app.live.run, args=(stop, 0.02, told, trainer, apart), name="fold")
        loop.start()
        sys.stdout.write("running\n")
        sys.stdout.flush()
        acting = [
            steadily(load.ask, predictions, stop),
            steadily(lambda: load.push(max(events // 10, 1)), 10, stop),
            steadily(load.look, 50, stop),
        ]
        while time() - began < seconds:
            sleep(min(5.0, max(seconds / 20, 0.05)))
            memory.append((round(time() - began, 1), round(memory_mb(), 1)))
            minutes.tell({"at": memory[-1][0], "memory MB": memory[-1][1], "decisions": dict(done)})
        stop.set()
        for thread in [*acting, loop]:
            thread.join()
        stalls.close()
        app.live.drain()
        parts = len(app.home.predictions.store.parts("fraud"))
    half = [mb for at, mb in memory if at >= min(600, seconds / 2)]
    return {
        "predictions": len(load.asking),
        "decisions": done,
        "failed passes": failed[:3],
        "parts at the end": parts,
        **shares(load.asking, load.gaps),
        "memory MB": memory[:: max(len(memory) // 20, 1)],
        "memory MB of the second half, least and most": [min(half), max(half)],
    }


if __name__ == "__main__":
    folder, a, b, c, *rest = sys.argv[1:]
    mode, history, every = [*rest, *("soon", "0", str(EVERY_S))[len(rest) :]]
    said = run(Path(folder), float(a), float(b), int(c), mode, int(history), int(every))
    sys.stdout.write(json.dumps(said) + "\n")
