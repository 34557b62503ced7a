"""From nothing to the first measured result: agent brought, started, artifact sent, one short trial."""

from __future__ import annotations

import tempfile

from hwloop.devices import AgentSession, local_device
from hwloop.layers import Layer
from hwloop.measurement import TimingProtocol, Trial
from hwloop.runtimes import get_runtime
from tests.benchmarks.timing import milliseconds, spread

LAYER = Layer(
    "conv", ((1, 16, 16, 16),), (1, 16, 16, 16), kernel=(3, 3), padding=(1, 1, 1, 1), bias=True, activation="relu"
)

#: The shortest trial that still is one; what it times itself is subtracted from nothing.
TIMING = TimingProtocol(warmup_s=0.05, min_s=0.05, max_s=0.1)


def main() -> None:
    """Print the time from opening a session to its first record, and to an empty session."""
    device = local_device()
    artifact = get_runtime("onnxruntime").layer(LAYER)

    def connect(trial: bool) -> None:
        with tempfile.TemporaryDirectory() as root:
            session = AgentSession.open(
                device.open_transport(), session_id="start", root=root, worker_python=device.worker_python
            )
            with session:
                if trial:
                    session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
                    one = Trial(artifact, 1, TIMING)
                    record = session.run_trial(one.id, one.spec)
                    assert record["status"] in ("ok", "degraded"), record

    print("agent start to session, and closed again:", spread(milliseconds(lambda: connect(False), 7)))
    print(
        f"agent start to first result, and closed again (of which {TIMING.warmup_s + TIMING.min_s:.2f} s at least are"
        " warm-up and timing):",
        spread(milliseconds(lambda: connect(True), 7)),
    )
