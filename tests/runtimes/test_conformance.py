"""What every runtime promises, tried with each that is registered: layers become artifacts that load and run.

Artifacts run three times: in the plain runtime, in the agent's runtime in this process, and a few in a real agent.
A new runtime joins by `register` and by an entry in `REFUSED`, `RUN`, `SHAPE` and `THREADS`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.devices import AgentSession, LocalTransport
from hwloop.errors import ModelError
from hwloop.layers import OPS, Layer
from hwloop.runtimes import Artifact, get_runtime, list_runtimes
from hwloop_agent import protocol
from hwloop_agent.runtimes import RUNTIMES, InvalidArtifactError, UnsupportedError, output_faults
from hwloop_agent.spec import check_spec
from tests.runtimes.layers import LAYERS, REFUSED, convolutions, refusal
from tests.runtimes.running import RUN, SHAPE, assert_sane, draw

TIMING = {
    "warmup_s": 0.01,
    "warmup_runs": 2,
    "min_s": 0.01,
    "max_s": 0.1,
    "min_blocks": 3,
    "max_blocks": 200,
    "block_us": 200,
    "target_relative_interval": 0.5,
    "confidence": 0.95,
}
THREADS = {"onnxruntime": "intra_op_threads", "litert": "threads"}
"""Where the settings that a runtime records tell the number of threads."""
IN_THE_AGENT = [
    "conv 1x16x16x16>1x32x8x8 k3x3 s2x2 p1,1,1,1 d1x1 g1 bias relu +add float32",
    "linear 1x400>1x120 bias relu float32",
    "avg_pool 1x16x8x8>1x16x4x4 k3x3 s2x2 p1,1,0,0 d1x1 float32",
]

every_runtime = pytest.mark.parametrize("name", list_runtimes())


def test_every_runtime_can_be_run_here_and_by_the_agent():
    assert set(list_runtimes()) == set(RUN) == set(SHAPE) == set(REFUSED) == set(RUNTIMES) - {"null"}


def test_no_operation_is_left_out():
    assert {Layer.parse(key).op for key in LAYERS} == set(OPS) - {"unsupported"}


def load(artifact: Artifact, path: Path, options: dict[str, Any] | None = None, threads: int = 1) -> Any:
    """The agent's runtime with the artifact loaded."""
    path.write_bytes(artifact.data)
    runtime = RUNTIMES[artifact.runtime]()
    options = {**artifact.options, **(options or {})}
    runtime.prepare(options)
    runtime.import_()
    runtime.load(str(path), [one.to_spec() for one in artifact.inputs], threads, options)
    return runtime


@every_runtime
@pytest.mark.parametrize("key", LAYERS)
def test_every_layer_runs_with_sane_values_of_its_shape_or_is_refused_with_a_reason(name, key, tmp_path):
    layer = Layer.parse(key)
    if refusal(name, key):
        with pytest.raises(ModelError, match=f"{refusal(name, key)}.*{re.escape(key)}"):
            get_runtime(name).layer(layer)
        return
    artifact = get_runtime(name).layer(layer)
    output = RUN[name](artifact, draw(artifact))
    assert output.shape == SHAPE[name](layer)
    assert_sane(output)

    runtime = load(artifact, tmp_path / f"layer{artifact.suffix}")
    run = runtime.runner()
    for _ in range(3):
        run()  # nothing that is fed may be written over
    (seen,) = runtime.outputs()
    assert output_faults([seen]) == []
    assert seen.shape == output.shape
    assert seen.max_abs == pytest.approx(float(abs(output).max()), rel=1e-6)


@every_runtime
@settings(max_examples=60, deadline=None)
@given(layer=convolutions(), seed=st.integers(0, 3))
def test_every_convolution_runs_and_gives_sane_values(name, layer, seed):
    artifact = get_runtime(name).layer(layer, seed=seed)
    output = RUN[name](artifact, draw(artifact))
    assert output.shape == SHAPE[name](layer)
    assert_sane(output)


@every_runtime
@pytest.mark.parametrize("key", IN_THE_AGENT)
def test_an_artifact_is_a_spec_that_the_agent_takes(name, key):
    artifact = get_runtime(name).layer(Layer.parse(key))
    assert (artifact.runtime, artifact.label) == (name, key)
    spec = {**artifact.trial_spec(), "threads": 1, "timing": TIMING, "replicate": 0}
    assert check_spec(spec) == artifact.sha256 + artifact.suffix


@every_runtime
def test_layers_are_measured_by_a_real_agent_with_the_threads_that_were_asked_for(name, tmp_path):
    with AgentSession.open(LocalTransport(), session_id="s1", root=tmp_path / "root") as session:
        for threads, key in [(1, key) for key in IN_THE_AGENT] + [(2, IN_THE_AGENT[0])]:
            artifact = get_runtime(name).layer(Layer.parse(key))
            session.put_artifact(artifact.data, artifact.sha256, artifact.suffix)
            spec = {**artifact.trial_spec(), "threads": threads, "timing": TIMING, "replicate": 0}
            if threads > len(session.hello.cpus):
                continue
            record = session.run_trial(protocol.trial_id(spec), spec)
            assert record["status"] in ("ok", "degraded"), record
            (output,) = record["outputs"]
            assert tuple(output["shape"]) == SHAPE[name](Layer.parse(key))
            assert record["memory"]["artifact_bytes"] == len(artifact.data)
            assert record["runtime"]["name"] == name
            assert record["runtime"]["settings"][THREADS[name]] == threads
        found = session.facts()["runtimes"][name]
        assert found["import"] == "ok"
        assert found["version"] == record["runtime"]["version"]


@every_runtime
@pytest.mark.parametrize("damage", [lambda data: b"nonsense", lambda data: data[: len(data) // 2]])
def test_a_damaged_artifact_is_named_as_such(name, damage: Callable[[bytes], bytes], tmp_path):
    good = get_runtime(name).layer(Layer.parse(IN_THE_AGENT[1]))
    bad = Artifact(damage(good.data), good.suffix, name, good.inputs)
    with pytest.raises(InvalidArtifactError):
        load(bad, tmp_path / "bad")


@every_runtime
def test_inputs_that_the_model_does_not_have_are_refused(name, tmp_path):
    good = get_runtime(name).layer(Layer.parse(IN_THE_AGENT[1]))
    bad = Artifact(good.data, good.suffix, name, ())
    with pytest.raises(UnsupportedError, match="inputs"):
        load(bad, tmp_path / "bad")


@every_runtime
def test_an_unknown_option_is_refused_before_anything_is_imported(name):
    with pytest.raises(UnsupportedError, match="no option flavour"):
        RUNTIMES[name]().prepare({"flavour": "sweet"})


@every_runtime
def test_the_same_layer_and_seed_give_the_same_bytes_in_any_process(name):
    key = IN_THE_AGENT[0]
    script = (
        "from hwloop.layers import Layer\nfrom hwloop.runtimes import get_runtime\n"
        f"print(get_runtime({name!r}).layer(Layer.parse({key!r})).sha256)"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert other == get_runtime(name).layer(Layer.parse(key)).sha256
    assert get_runtime(name).layer(Layer.parse(key), seed=1).sha256 != other


@every_runtime
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Layer("unsupported", ((1, 4),), (1, 4), detail="TopK(axis=1): unknown"), r"TopK\(axis=1\)"),
        (Layer("relu", ((1, 4),), (1, 4), dtype="float16"), "float16"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(name, layer, reason):
    with pytest.raises(ModelError, match=f"{name}.*{reason}|{reason}.*{name}"):
        get_runtime(name).layer(layer)
