"""Small convolutions, and sessions with a real agent on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hwloop.devices import AgentSession, local_device
from hwloop.layers import Layer
from hwloop.measurement import Subject
from hwloop.runtimes import get_runtime


def make_subjects(count: int) -> list[Subject]:
    runtime = get_runtime("onnxruntime")
    layers = [
        Layer("conv", ((1, 8, 8, 8),), (1, width, 8, 8), kernel=(3, 3), padding=(1, 1, 1, 1), activation="relu")
        for width in range(1, count + 1)
    ]
    return [Subject(layer.key, runtime.layer(layer)) for layer in layers]


@pytest.fixture
def opener(tmp_path: Path) -> Callable[[], AgentSession]:
    device = local_device(str(tmp_path / "device"))

    def open_session() -> AgentSession:
        return AgentSession.open(
            device.open_transport(), session_id="test", root=device.root, worker_python=device.worker_python
        )

    return open_session
