"""A real server on loopback: many clients at once, and an end without lost answers."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from homeostat.serve.routing import Route
from homeostat.serve.server import NotServed, serve, serving
from homeostat.testing.drills import HangingScores
from homeostat.testing.payments import Bench, arm, tap

MakesBench = Callable[..., Bench]


def test_everybody_gets_their_own_answer(bench: MakesBench) -> None:
    def amount(features: Any) -> Any:
        return features.matrix[:, 2] / 1000

    made = bench(Route(champion=arm(amount)), {"deadline": "1m"})

    def client(address: str, first: int) -> list[tuple[float, str]]:
        with httpx.Client(base_url=address, trust_env=False) as asked:
            found = []
            for number in range(first, first + 25):
                body = tap(tap_id=f"t{number}", amount=number)
                answer = asked.post("/predict/fraud", json=body).json()
                found.append((answer["score"], answer["prediction_id"]))
            return found

    with serving(made.application()) as address, ThreadPoolExecutor(6) as pool:
        parts = [pool.submit(client, address, 25 * i) for i in range(6)]
        answers = [answer for part in parts for answer in part.result()]
    assert [score for score, _ in answers] == [n / 1000 for n in range(150)]
    assert len({prediction_id for _, prediction_id in answers}) == 150
    logged = {(p, float(s)) for b in made.log.batches for p, s in zip(b.ids, b.scores, strict=True)}
    assert logged == {(prediction_id, score) for score, prediction_id in answers}


def test_what_was_received_is_answered_before_the_end(bench: MakesBench) -> None:
    hanging = HangingScores(0.75)
    made = bench(Route(champion=arm(hanging)), {"deadline": "1m"})
    app = made.application()
    drained: list[bool] = []
    drain = app.drain

    def draining() -> None:
        drain()
        drained.append(True)
        hanging.release.set()

    app.drain = draining  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        with serving(app) as address:
            asked = pool.submit(httpx.post, f"{address}/predict/fraud", json=tap())
            hanging.entered.wait()
        assert drained
        assert asked.result().json()["score"] == 0.75


def test_a_large_body_is_refused_so_that_the_client_sees_why(bench: MakesBench) -> None:
    with serving(bench().application()) as address:
        response = httpx.post(f"{address}/predict/fraud", content=b"x" * (3 << 20))
        assert response.status_code == 413
        assert response.headers["connection"] == "close"
        chunks = (b"x" * 100_000 for _ in range(20))
        assert httpx.post(f"{address}/predict/fraud", content=chunks).status_code == 413
        assert httpx.get(f"{address}/health").status_code == 200


def test_a_client_that_leaves_is_counted_and_harms_nobody(bench: MakesBench) -> None:
    made = bench()
    with serving(made.application()) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as line:
            line.sendall(b"POST /predict/fraud HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{")
        assert httpx.post(f"{address}/predict/fraud", json=tap()).status_code == 200
    assert 'status="499"' in made.metrics.text({})


def test_a_port_in_use_is_an_error_that_says_so(bench: MakesBench) -> None:
    app = bench().application()
    with serving(app) as address:
        port = int(address.rpartition(":")[2])
        with (
            pytest.raises(NotServed, match=f"127.0.0.1:{port} cannot be listened on; allowed: "),
            serving(bench().application(), port=port),
        ):
            raise AssertionError("two servers on one port")
        with pytest.raises(NotServed):
            serve(bench().application(), port=port)


def test_answers_survive_the_wire_to_the_bit(bench: MakesBench) -> None:
    scores = np.nextafter(0.1, 1), 1 / 3, 5e-324, 1 - 2**-53
    places = iter(scores)
    made = bench(Route(champion=arm(lambda f: np.full(len(f.matrix), next(places)))))
    with serving(made.application()) as address:
        found = [
            json.loads(httpx.post(f"{address}/predict/fraud", json=tap(tap_id=str(score))).text)[
                "score"
            ]
            for score in scores
        ]
    assert found == [float(score) for score in scores]


SCRIPT = """
from homeostat.serve.routing import Route
from homeostat.serve.server import serve
from homeostat.testing.drills import HangingScores
from homeostat.testing.payments import Bench, arm, payments

made = Bench(payments(deadline="1ms"), Route(champion=arm(HangingScores())))
serve(made.application(), port=0, started=lambda address: print(address, flush=True))
print("ended", flush=True)
"""


def test_a_signal_ends_the_server_though_a_model_hangs() -> None:
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        address = run.stdout.readline().strip()
        answer = httpx.post(f"{address}/predict/fraud", json=tap()).json()
        assert answer["degraded"] == ["overloaded"]
        run.send_signal(signal.SIGTERM)
        assert run.stdout.read() == "ended\n"
    assert run.returncode == 0
