"""A small working system to start from: a chain of cafés, and which orders will be late."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from homeostat.core.errors import HomeostatError

__all__ = ["NEXT", "ScaffoldRefused", "scaffold"]

START = datetime(2024, 6, 3, tzinfo=UTC)
END = datetime(2024, 6, 23, 12, tzinfo=UTC)
CAFES = {"harbour": 1.4, "library": 0.9, "market": 1.8, "museum": 0.7, "park": 1.0, "station": 2.2}
"""Orders at each café, in units of five an hour at the busiest time of the day."""
OPEN, CLOSE = 7, 19
SEED = 20240603

NEXT = (
    ("homeostat check", "find mistakes"),
    ("homeostat ingest orders data/orders.csv", "three weeks of history"),
    ("homeostat ingest pickups data/pickups.csv", ""),
    ("homeostat replay --from 2024-06-14 --every 12h", "live through the last ten days"),
    ("homeostat status", "which version answers, and why"),
    ("homeostat run", "answer over HTTP"),
)
"""What to do with it, command by command."""

SYSTEM = '''\
"""Which orders will keep their customer waiting? A small system to start from."""

import homeostat as hs
from homeostat import col, count, mean, share


# 1. Events: what is known about the world, each with its own clock.


class Order(hs.Event):
    """A customer orders ahead; at this instant we are asked."""

    order_id: str
    cafe: str
    items: int
    amount: float
    ordered_at: hs.Timestamp


class Pickup(hs.Event):
    """The order was handed over; now the wait is known."""

    order_id: str
    cafe: str
    wait_minutes: float
    ready_at: hs.Timestamp


orders = hs.EventSource("orders", Order, event_id="order_id", event_time="ordered_at", delay="1s")
pickups = hs.EventSource("pickups", Pickup, event_id="order_id", event_time="ready_at", delay="1s")

# 2. Features: kept up while events arrive, and the same in training, bit for bit.

cafe = hs.Entity("cafe", key="cafe")
cafe_orders = hs.FeatureView("cafe_orders", cafe, orders, (count().over("15m", "1h"),))
cafe_pickups = hs.FeatureView(
    "cafe_pickups",
    cafe,
    pickups,
    (
        mean("wait_minutes").over("30m", "2h"),
        share(col("wait_minutes") >= 10).named("late_share").over("1h"),
        count().over("1h"),
    ),
)


@hs.on_demand(cafe_orders["count_1h"], cafe_pickups["count_1h"])
def queue(ordered, handed_over):
    """Orders of the last hour that nobody has fetched yet, more or less."""
    return ordered - handed_over


# 3. The model: its label is told by a later event, its threshold follows from the costs.

late = hs.Label(
    "late",
    predicts=orders,
    outcome=pickups,
    join_on="order_id",
    value=col("wait_minutes") >= 10,
    delay="3h",
    when_absent=True,
)
model = hs.Model(
    "late_order",
    features=(*cafe_orders.all(), *cafe_pickups.all(), queue, "cafe", "items", "amount"),
    label=late,
    estimator=hs.Estimator("lightgbm:LGBMClassifier", {"n_estimators": 120, "num_leaves": 15}),
    split=hs.Split(validation="2d", test="2d"),
    requirements=hs.Requirements(
        false_positive_cost=1,
        false_negative_cost=3,
        gates=(hs.Gate("auc", at_least=0.6), hs.Gate("cost", within=0.05)),
        slices=("cafe",),
    ),
)

# 4. Production: how a new version comes in, what stops it, and what users get when a part fails.

deployment = hs.Deployment(
    model=model,
    rollout=(hs.Shadow("1d"), hs.Canary((0.2,), every="1d")),
    guards=(hs.Guard("cost", within=0.1, rows=30), hs.Guard("error_rate", at_most=0.01, rows=50)),
    degradation=hs.Degradation(score=0.2),
)

system = hs.System(
    "cafes",
    sources=(orders, pickups),
    views=(cafe_orders, cafe_pickups),
    models=(model,),
    deployments=(deployment,),
    monitors=(
        hs.Freshness(orders, within="14h"),
        hs.Freshness(pickups, within="14h"),
        hs.Drift(model, psi=0.25, features=2, window="3d"),
        hs.Quality(model, "auc", worse_by=0.1, window="3d", rows=200),
    ),
    retraining=(hs.Retrain(model, every="4d", cooldown="2d"),),
)
'''


class ScaffoldRefused(HomeostatError):
    """A file of the new system is there already."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"init: {path} is there already; allowed: a folder without it; choose another folder"
        )


def scaffold(folder: Path) -> tuple[Path, ...]:
    """Write the system and its events into a folder; return the files. The same on every machine.

    >>> import tempfile
    >>> [path.name for path in scaffold(Path(tempfile.mkdtemp()))]
    ['system.py', 'orders.csv', 'pickups.csv']
    """
    system = folder / "system.py"
    orders, pickups = folder / "data" / "orders.csv", folder / "data" / "pickups.csv"
    for path in (system, orders, pickups):
        if path.exists():
            raise ScaffoldRefused(path)
    orders.parent.mkdir(parents=True, exist_ok=True)
    system.write_text(SYSTEM, encoding="utf-8")
    asked, fetched = _events()
    _write(orders, ("order_id", "cafe", "items", "amount", "ordered_at"), asked)
    _write(pickups, ("order_id", "cafe", "wait_minutes", "ready_at"), fetched)
    return system, orders, pickups


Rows = list[tuple[object, ...]]


def _write(path: Path, head: Sequence[str], rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def _events() -> tuple[Rows, Rows]:
    """Return orders and pickups, each by time: one barista a café, and a queue before it.

    From the second week on the market gets slower, so that the world changes a little.
    """
    draw = Random(SEED)
    asked: list[tuple[datetime, str, int, float]] = []
    for day in range((END - START).days + 1):
        for cafe, rate in CAFES.items():
            asked += _day(draw, START + timedelta(days=day), cafe, rate)
    asked = sorted(order for order in asked if order[0] < END)
    orders: Rows = []
    pickups: list[tuple[datetime, tuple[object, ...]]] = []
    free = dict.fromkeys(CAFES, START)
    for number, (at, cafe, items, amount) in enumerate(asked):
        name = f"o{number:05d}"
        slow = 1.5 if cafe == "market" and at >= START + timedelta(days=9) else 1.0
        work = timedelta(minutes=slow * (1.2 + 0.8 * items) * draw.uniform(0.6, 1.6))
        free[cafe] = ready = max(at, free[cafe]) + work
        orders.append((name, cafe, items, f"{amount:.2f}", _iso(at)))
        if draw.random() < 0.98 and ready < END:  # some orders are never fetched
            wait = (ready - at) / timedelta(minutes=1)
            pickups.append((ready, (name, cafe, f"{wait:.1f}", _iso(ready))))
    pickups.sort()
    return orders, [row for _, row in pickups]


def _day(
    draw: Random, day: datetime, cafe: str, rate: float
) -> list[tuple[datetime, str, int, float]]:
    """Return the orders of one café on one day; mornings and noons are busy."""
    found = []
    hour = float(OPEN)
    while hour < CLOSE:
        busy = 1.0 if hour < 9 or 12 <= hour < 14 else 0.45
        hour += draw.expovariate(5 * rate * busy)
        items = draw.choice((1, 1, 1, 2, 2, 3, 5))
        amount = items * draw.uniform(2.5, 6.0)
        found.append((day + timedelta(hours=hour), cafe, items, amount))
    return [order for order in found if order[0] < day + timedelta(hours=CLOSE)]


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
