"""A real agent on this machine, a real onnxruntime model, and a check that no test leaves anything behind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwloop.devices import AgentSession, LocalTransport
from tests.leaks import nothing_left
from tests.timing import QUICK


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a file descriptor or a child process behind."""
    with nothing_left():
        yield


@dataclass(frozen=True)
class Model:
    """An ONNX model and the parts of a spec that name it."""

    data: bytes
    shape: tuple[int, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def spec(
        self, replicate: int = 0, threads: int = 1, timing: dict[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        return {
            "artifact": {"sha256": self.sha256, "suffix": ".onnx", "size": len(self.data)},
            "runtime": "onnxruntime",
            "options": {"free_dimensions": {"batch": 1}, **options},
            "inputs": [
                {"name": "input", "shape": list(self.shape), "dtype": "float32", "distribution": "normal", "seed": 0}
            ],
            "threads": threads,
            "timing": {**QUICK, **(timing or {})},
            "replicate": replicate,
        }


def build_model(channels: int, size: int, *, operator: str = "Conv", scale: float = 1.0) -> Model:
    """One convolution and a ReLU, weights scaled as He would."""
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((channels, channels, 3, 3)) * np.sqrt(2 / (9 * channels)) * scale
    image = ["batch", channels, size, size]
    graph = helper.make_graph(
        [
            helper.make_node(operator, ["input", "weights"], ["inner"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["inner"], ["output"]),
        ],
        "layer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, image)],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    if operator == "Conv":
        onnx.checker.check_model(model)
    return Model(model.SerializeToString(), (1, channels, size, size))


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Model]:
    return build_model


@pytest.fixture(scope="session")
def model() -> Model:
    return build_model(16, 16)


@pytest.fixture
def open_session(tmp_path: Path, no_leaks: None) -> Iterator[Callable[..., AgentSession]]:
    """Opens sessions on this machine that share one root; closes them."""
    with ExitStack() as opened:

        def open_(session_id: str = "s1", **more: Any) -> AgentSession:
            transport = more.pop("transport", None) or LocalTransport()
            session = AgentSession.open(transport, session_id=session_id, root=tmp_path / "root", **more)
            return opened.enter_context(session)

        yield open_
