"""From torch modules and ONNX files to the layers that a runtime executes."""

from hwloop.extraction.export import export_onnx
from hwloop.extraction.fusion import ONNXRUNTIME_ARM, ONNXRUNTIME_X86, FusionRules
from hwloop.extraction.network import network_from_onnx, network_from_torch

__all__ = [
    "ONNXRUNTIME_ARM",
    "ONNXRUNTIME_X86",
    "FusionRules",
    "export_onnx",
    "network_from_onnx",
    "network_from_torch",
]
