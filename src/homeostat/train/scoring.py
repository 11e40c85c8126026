"""Scores a graph with ONNX Runtime, to the same bits alone and in any batch, and gates parity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError

__all__ = ["GraphRefused", "MatrixRefused", "ParityFailed", "Scorer", "check_parity", "parity"]

Floats = NDArray[np.float64]


class GraphRefused(HomeostatError):
    """The bytes are not a graph that this runtime can score with."""


class MatrixRefused(HomeostatError, ValueError):
    """The features do not have the shape or type that the graph was made for."""


class ParityFailed(HomeostatError):
    """The graph does not score as the model it was made from does."""

    def __init__(
        self, where: str, found: float, allowed: float, worst: tuple[int, float, float]
    ) -> None:
        self.where, self.found, self.allowed = where, found, allowed
        self.row, self.native, self.onnx = worst
        super().__init__(
            f"{where}: graph and native scores differ by {found:.3g}; allowed: {allowed:.3g}; "
            f"row {self.row} scores {self.native!r} natively and {self.onnx!r} in the graph; "
            "declare other parameters or another kind of estimator, and train again."
        )


class Scorer:
    """One graph, loaded; `score` may be called from many threads.

    A row's score does not depend on its batch. Three things make it so: one thread adds the trees
    of a row from first to last (more would add partial sums), no optimiser rewrites the graph, and
    the graph holds no operator whose vectorised loop and remainder round differently (see
    `homeostat.train.export`).
    """

    __slots__ = ("_run", "width")

    width: int

    def __init__(self, graph: bytes) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3  # errors only; they are raised as well
        try:
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as broken:  # onnxruntime's errors share no narrower type
            raise GraphRefused(
                f"graph of {len(graph)} bytes: onnxruntime {ort.__version__} cannot load it "
                f"({broken}); allowed: the bytes of export_onnx; export the model again."
            ) from broken
        self.width = _width(session)
        self._run = session.run

    def score(self, matrix: Floats) -> Floats:
        """Return one score per row.

        Args:
            matrix: float64[n, width]; NaN is a missing value; n may be 0. A linear model without
                an imputer scores a row with NaN as NaN, where scikit-learn would raise.

        Returns:
            float64[n], the same bits for a row whatever else is in the batch.

        Raises:
            MatrixRefused: another shape or type.
        """
        if matrix.dtype != np.float64 or matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise MatrixRefused(
                f"scoring: got {matrix.dtype}{list(matrix.shape)}; "
                f"allowed: float64[n, {self.width}]; "
                "pass the model's features in its declared order, one row per request."
            )
        if not len(matrix):
            return np.empty(0)
        scores: Floats = self._run(("score",), {"features": matrix})[0]
        return scores[:, 0]


def _width(session: Any) -> int:
    inputs = [(i.name, i.type, i.shape) for i in session.get_inputs()]
    outputs = [(o.name, o.type) for o in session.get_outputs()]
    match inputs:
        case [("features", "tensor(double)", [_, int(width)])] if outputs == [
            ("score", "tensor(double)")
        ]:
            return width
    raise GraphRefused(
        f"graph: inputs {inputs}, outputs {outputs}; allowed: features double[n, width] and score "
        "double[n, 1]; load a graph that export_onnx wrote."
    )


def parity(native_scores: Floats, onnx_scores: Floats) -> float:
    """Return the largest absolute difference between two float64[n].

    Two NaN, or two equal infinities, agree; NaN against a number differs by infinity.

    >>> parity(np.array([0.25, np.nan]), np.array([0.5, np.nan]))
    0.25
    >>> parity(np.array([0.25]), np.array([np.nan]))
    inf
    """
    return float(np.max(_differences(native_scores, onnx_scores), initial=0.0))


def check_parity(
    native_scores: Floats, onnx_scores: Floats, *, tolerance: float = 1e-9, where: str = "model"
) -> float:
    """Return `parity`, or refuse.

    Args:
        native_scores: float64[n], from the fitted model.
        onnx_scores: float64[n], from `Scorer.score` on the same rows.
        tolerance: allowed difference, times the largest native score where that is above 1.
        where: the model's name and version, for the error.

    Raises:
        ParityFailed: the difference is larger, or there is no row to compare.

    >>> check_parity(np.array([0.25]), np.array([0.25]))
    0.0
    """
    differences = _differences(native_scores, onnx_scores)
    if not len(differences):
        raise MatrixRefused(
            f"{where}: parity of 0 rows; allowed: at least 1; pass the validation rows."
        )
    magnitudes = np.abs(native_scores[np.isfinite(native_scores)])
    allowed = tolerance * max(1.0, float(np.max(magnitudes, initial=0.0)))
    row = int(np.argmax(differences))
    found = float(differences[row])
    if found > allowed:
        worst = (row, float(native_scores[row]), float(onnx_scores[row]))
        raise ParityFailed(where, found, allowed, worst)
    return found


def _differences(native_scores: Floats, onnx_scores: Floats) -> Floats:
    if native_scores.shape != onnx_scores.shape or native_scores.ndim != 1:
        raise MatrixRefused(
            f"parity: got shapes {native_scores.shape} and {onnx_scores.shape}; allowed: two [n]; "
            "score the same rows both ways."
        )
    with np.errstate(invalid="ignore"):  # infinity minus infinity, replaced below
        difference = np.abs(native_scores - onnx_scores)
    same = (native_scores == onnx_scores) | (np.isnan(native_scores) & np.isnan(onnx_scores))
    settled: Floats = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return settled
