"""Runs artifacts in the agent's runtimes inside this process: what a trial's record says of them, without its cost."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hwloop.runtimes import Artifact, list_runtimes
from hwloop.runtimes.conformance import Run
from hwloop_agent.runtimes import RUNTIMES, InvalidArtifactError, UnsupportedError, output_faults

PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai_edge_litert", "torch": "torch", "tvm": "tvm"}
"""What a runtime of the agent needs in this environment."""

COMPILED = ("tvm",)
"""Each layer takes a compiler a good part of a second, so that only some are tried on every change."""
FEW = 12


def _where_installed(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(PACKAGES[name]) is None, reason=f"{PACKAGES[name]} is not installed"
    )


every_runtime = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=_where_installed(name)) for name in list_runtimes()]
)


def every_runtime_with(keys: list[str]) -> pytest.MarkDecorator:
    """Every runtime with every layer; those of a runtime that compiles are slow beyond the first few."""
    return pytest.mark.parametrize(
        ("name", "key"),
        [
            pytest.param(
                name,
                key,
                marks=[_where_installed(name), *([pytest.mark.slow] if name in COMPILED and at >= FEW else [])],
            )
            for name in list_runtimes()
            for at, key in enumerate(keys)
        ],
    )


def runner(folder: Path) -> Run:
    """A `Run` that keeps its files in `folder`."""

    def run(artifact: Artifact, threads: int) -> Mapping[str, Any]:
        record: dict[str, Any] = {"status": "ok", "reasons": [], "runtime": {}, "outputs": []}
        path = folder / f"{artifact.sha256}{artifact.suffix}"
        path.write_bytes(artifact.data)
        runtime = RUNTIMES[artifact.runtime]()
        options = dict(artifact.options)
        try:
            runtime.prepare(options)
            runtime.import_()
            runtime.load(str(path), [one.to_spec() for one in artifact.inputs], threads, options)
            once = runtime.runner()
            for _ in range(3):
                once()  # nothing that is fed may be written over
            outputs = runtime.outputs()
        except (UnsupportedError, InvalidArtifactError) as error:
            status = "unsupported" if isinstance(error, UnsupportedError) else "invalid"
            return {**record, "status": status, "reasons": [str(error)]}
        finally:
            path.unlink()
        faults = output_faults(outputs)
        record["outputs"] = [output.to_json(values="keep_outputs" in artifact.extras) for output in outputs]
        record["runtime"] = {"name": runtime.name, "version": runtime.version(), "settings": runtime.settings()}
        return {**record, "status": "invalid" if faults else "ok", "reasons": faults}

    return run
