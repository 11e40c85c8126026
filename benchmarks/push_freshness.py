"""Goal: 2,000 events per second pushed over HTTP are readable features in 250 ms, 99 % in 1 s.

`homeostat run` is a process of its own, as for a user; a second process pushes batches of ten at a
steady rate over four connections; a third looks at the online store as a reader elsewhere would.
One event in fifty is of a card of its own, so that its own count tells when it can be read.
Freshness is from the instant before the request is sent to the first look that finds it.

In the second case a model is trained meanwhile: code in Python that keeps a core busy.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import monotonic, sleep, time_ns

import numpy as np

import homeostat as hs
from benchmarks.card_payments import CARDS
from benchmarks.contest import ROOT, Benchmark, Case, Work
from homeostat.adapters.lmdb import LmdbStore
from homeostat.features.read import ViewReader
from homeostat.runtime.journal import Journal
from homeostat.runtime.loading import load_system

__all__ = ["BENCHMARK"]

BATCH, LINES, PROBE = 10, 4, 50
LOOK_S = 0.005
"""The rest between two looks: what is measured is longer by half of it."""


def cases(small: bool, folder: Path) -> Sequence[Case]:
    """One rate, for a while, without a training and with one."""
    rate, seconds, minute = (200, 2, 4) if small else (2_000, 20, 60)
    return [
        Case(
            f"{rate:,} events/s, {lasting} s{', a training meanwhile' if trains else ''}",
            folder / f"push-{rate}-{lasting}",
            {"rate": rate, "seconds": lasting, "trains": trains},
        )
        for lasting, trains in ((seconds, 0), (minute, 1))
    ]


TRAINED = """
from pathlib import Path
import homeostat as hs
from benchmarks.card_payments import CARDS, PAYMENTS

HOLD = Path(__file__).with_name("hold")

class Verdict(hs.Event):
    payment_id: str
    at: hs.Timestamp
    fraud: bool

verdicts = hs.EventSource("verdicts", Verdict, event_id="payment_id", event_time="at")

@hs.on_demand("amount")
def twice(amount):
    while len(amount) > 50 and HOLD.exists():
        pass
    return 2 * amount

label = hs.Label("fraud", predicts=PAYMENTS, outcome=verdicts, join_on="payment_id",
                 value=hs.col("fraud") == True, delay="1h", when_absent=False)
model = hs.Model(
    "fraud", features=("amount", twice), label=label,
    estimator=hs.Estimator("sklearn.linear_model:LogisticRegression"),
    split=hs.Split(validation="1d", test="1d"),
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=5),
)
deployment = hs.Deployment(model=model, rollout=(hs.Shadow("1d"),), guards=(),
                           degradation=hs.Degradation(score=0.1))
system = hs.System("payments", sources=(PAYMENTS, verdicts), views=(CARDS,), models=(model,),
                   deployments=(deployment,))
"""
"""The same with a model, whose training is busy in Python as long as the file `hold` is there."""


def prepare(case: Case) -> None:
    """Write the system's file."""
    words = "from benchmarks.card_payments import SYSTEM\n\nsystem = SYSTEM\n"
    (case.folder / "system.py").write_text(TRAINED if case["trains"] else words)


def _remember(case: Case, home: Path) -> None:
    """Give a home what a training needs: labelled payments of the days before."""
    (case.folder / "hold").touch()
    begin = np.datetime64(time_ns() // 1000, "us") - np.timedelta64(9, "D")
    at = [f"{begin + np.timedelta64(n, 'h')}Z" for n in range(200)]
    payments = [
        {"payment_id": f"old-{n}", "card": "old", "merchant": "old", "amount": n % 7, "paid_at": t}
        for n, t in enumerate(at)
    ]
    verdicts = [{"payment_id": f"old-{n}", "at": t, "fraud": n % 7 > 3} for n, t in enumerate(at)]
    with hs.open(load_system(case.folder / "system.py"), home) as app:
        app.ingest("payments", payments, history=True)
        app.ingest("verdicts", verdicts, history=True)


def through_http(case: Case) -> Work:
    """Start the server; the work pushes and looks."""
    opened = ExitStack()
    home = Path(opened.enter_context(TemporaryDirectory(dir=case.folder))) / "home"
    if case["trains"]:
        _remember(case, home)
    words = ["run", "--port", "0", "--json", "--system", str(case.folder / "system.py")]
    server = subprocess.Popen(
        [sys.executable, "-c", "from homeostat.runtime.cli import main; main()", *words,
         "--home", str(home)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    opened.callback(server.wait)
    opened.callback(server.terminate)
    assert server.stdout is not None
    opened.callback(server.stdout.close)
    address = json.loads(server.stdout.readline())["address"]

    def work() -> dict[str, float]:
        with opened:
            pusher = [sys.executable, "-m", "benchmarks.push_freshness", address]
            with subprocess.Popen(
                [*pusher, str(case["rate"]), str(case["seconds"])],
                stdout=subprocess.PIPE, text=True, cwd=ROOT,
            ) as pushing:  # fmt: skip
                seen = _seen(home, case["rate"] * case["seconds"] // PROBE)
                told, _ = pushing.communicate()
            if case["trains"]:
                last = Journal(home / "meta.db").decisions()[-1]
                assert last.action == "train", "the training went on all the time"
        sent = json.loads(told)
        late_ms = np.array([1000 * (seen[card] - at) for card, at in sent["probes"].items()])
        return {
            "p50_ms": float(np.quantile(late_ms, 0.5)),
            "p99_ms": float(np.quantile(late_ms, 0.99)),
            "slowest_ms": float(late_ms.max()),
            "events_per_s": sent["events_per_s"],
        }

    return work


def _seen(home: Path, probes: int) -> dict[str, float]:
    """Return when the count of each probe's card was first 1, on the clock of all processes."""
    store, reader = LmdbStore(home / "online"), ViewReader(CARDS)
    seen: dict[str, float] = {}
    first = 0
    while len(seen) < probes:
        wanted = [f"probe-{n}" for n in range(first, min(first + 200, probes))]
        wanted = [card for card in wanted if card not in seen]
        now = time_ns() // 1000
        with store.reader() as snapshot:
            counts = reader.read(snapshot, [(card,) for card in wanted], now)[:, 0]
        at = monotonic()
        seen |= {card: at for card, count in zip(wanted, counts, strict=True) if count == 1}
        while first < probes and f"probe-{first}" in seen:
            first += 1
        sleep(LOOK_S)
    store.close()
    return seen


def push(address: str, rate: int, seconds: int) -> None:
    """Push at a steady rate; print when each probe was sent, and the rate that was kept."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    total = rate * seconds
    probes: dict[str, float] = {}
    began = monotonic() + 0.1

    def line(number: int) -> None:
        connection = HTTPConnection(host, int(port))
        for begin in range(number * BATCH, total, LINES * BATCH):
            sleep(max(began + begin / rate - monotonic(), 0))
            paid_at = f"{np.datetime64(time_ns() // 1000, 'us')}Z"
            numbers = range(begin, min(begin + BATCH, total))
            events = [
                {
                    "payment_id": f"payment-{n}",
                    "card": f"card-{n * 7919 % 10_000}" if n % PROBE else f"probe-{n // PROBE}",
                    "merchant": f"merchant-{n % 100}",
                    "amount": n % 997 / 10,
                    "paid_at": paid_at,
                }
                for n in numbers
            ]
            body = json.dumps(events)
            at = monotonic()
            probes.update({f"probe-{n // PROBE}": at for n in numbers if not n % PROBE})
            connection.request("POST", "/events/payments", body)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 202, told

    threads = [Thread(target=line, args=(number,)) for number in range(LINES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"probes": probes, "events_per_s": total / (monotonic() - began)}))


BENCHMARK = Benchmark(
    name="push_freshness",
    claim="Freshness: from the HTTP push to the readable feature, at 2,000 events a second",
    module=__name__,
    systems={"homeostat": "through_http"},
    cases=cases,
    prepare=prepare,
    figures=("p50_ms", "p99_ms", "slowest_ms", "events_per_s"),
    note=(
        "The server, who pushes and who looks are three processes on the same cores; each batch of "
        "ten is synced to the log before it is answered, and each fold is synced, too. CPU and "
        "peak are of who looks."
    ),
)

if __name__ == "__main__":
    push(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
