"""Runtimes, as the host sees them: what they load, one module per runtime behind `Runtime`.

A room that must not import torch takes `Artifact` from `hwloop.runtimes.artifact`.
"""

from hwloop.runtimes.artifact import Artifact, InputSpec
from hwloop.runtimes.litert import LiteRtRuntime
from hwloop.runtimes.onnxruntime import OnnxRuntime
from hwloop.runtimes.registry import Runtime, get_runtime, list_runtimes, own_suffixes, register
from hwloop.runtimes.torch import TorchRuntime
from hwloop.runtimes.tvm import TvmRuntime

__all__ = [
    "Artifact",
    "InputSpec",
    "LiteRtRuntime",
    "OnnxRuntime",
    "Runtime",
    "TorchRuntime",
    "TvmRuntime",
    "get_runtime",
    "list_runtimes",
    "own_suffixes",
    "register",
]

register(LiteRtRuntime)
register(OnnxRuntime)
register(TorchRuntime)
register(TvmRuntime)
