"""From torch modules and ONNX files to the layers that a runtime executes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hwloop.extraction.fusion import LITERT, ONNXRUNTIME_ARM, ONNXRUNTIME_X86, TORCH_COMPILED, TORCH_EAGER, FusionRules
from hwloop.extraction.network import network_from_onnx, network_from_torch

__all__ = [
    "LITERT",
    "ONNXRUNTIME_ARM",
    "ONNXRUNTIME_X86",
    "TORCH_COMPILED",
    "TORCH_EAGER",
    "FusionRules",
    "export_onnx",
    "network_from_onnx",
    "network_from_torch",
]

if TYPE_CHECKING:
    from hwloop.extraction.export import export_onnx


def __getattr__(name: str) -> Any:
    """Import torch's exporter when it is asked for: an ONNX file is read without torch."""
    if name == "export_onnx":
        from hwloop.extraction.export import export_onnx

        return export_onnx
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
