"""A note is told once when it begins and once when it ends, however its figures change."""

from __future__ import annotations

from random import Random

from homeostat.runtime.noted import Noted

KINDS = (
    "log /home/a1/log.db: {0} waits ({1:,.1f} MB are free); allowed: a file system with room",
    "fraud@2: the champion gave none of the last {0} answers: its fallbacks did",
    "fraud@3: the champion gave none of the last {0} answers: its fallbacks did",
    "{0} requests had 'code_1', the former name of 'code_2': it is read as that",
    "{0} requests had 'code_3', the former name of 'code_4': it is read as that",
    "the challenger (version 4) waits for 'price_5' in requests",
    "the challenger (version 5) waits for 'price_5' in requests",
    "behind since 2026-12-01T04:05:06Z by {1:,.2f} s",
)


def test_each_note_begins_once_and_ends_once() -> None:
    for seed in range(50):
        random, noted = Random(seed), Noted()
        lasting: dict[int, str] = {}
        for _ in range(30):
            now = {
                kind: text.format(random.randint(1, 99_999), random.uniform(0, 1e6)).replace(
                    "1 requests", "1 request"
                )
                for kind, text in enumerate(KINDS)
                if random.random() < 0.7
            }
            lines = list(noted.lines(now.values()))
            began = [f"note: {now[kind]}" for kind in now if kind not in lasting]
            ended = [f"no longer: {lasting[kind]}" for kind in lasting if kind not in now]
            assert sorted(lines) == sorted(began + ended), seed
            lasting = {kind: lasting.get(kind, text) for kind, text in now.items()}
