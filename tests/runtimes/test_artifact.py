from __future__ import annotations

import hashlib
import json

import pytest

from hwloop.errors import UserError
from hwloop.runtimes import Artifact, InputSpec, OnnxRuntime, get_runtime, list_runtimes, register


def test_an_artifact_tells_what_a_trial_needs_to_know_as_json():
    inputs = (InputSpec("input", (1, 3, 8, 8), seed=4),)
    artifact = Artifact(b"model", ".onnx", "onnxruntime", inputs, {"free_dimensions": {"batch": 1}}, "a label")
    digest = hashlib.sha256(b"model").hexdigest()
    assert artifact.sha256 == digest
    assert artifact.to_spec() == {"sha256": digest, "suffix": ".onnx", "size": 5}
    assert json.loads(json.dumps(artifact.trial_spec())) == {
        "artifact": {"sha256": digest, "suffix": ".onnx", "size": 5},
        "runtime": "onnxruntime",
        "options": {"free_dimensions": {"batch": 1}},
        "inputs": [{"name": "input", "shape": [1, 3, 8, 8], "dtype": "float32", "distribution": "normal", "seed": 4}],
    }


def test_runtimes_are_found_by_name():
    assert get_runtime("onnxruntime").name == "onnxruntime"
    assert "onnxruntime" in list_runtimes()


def test_an_unknown_runtime_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"'onnxrutime'.*onnxruntime"):
        get_runtime("onnxrutime")


def test_a_name_can_be_registered_once():
    with pytest.raises(ValueError, match="onnxruntime"):
        register(OnnxRuntime)
