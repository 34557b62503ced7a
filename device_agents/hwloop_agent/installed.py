"""Which versions of the runtimes lie in the workers' environment, told by file names alone: nothing is imported.

A record that was measured with another version is another measurement. A runtime that dies while it is imported cannot
say its version; the name of its metadata directory (`onnxruntime-1.23.2.dist-info`) still does.
"""

from __future__ import annotations

import glob
import os
from typing import Dict

DISTRIBUTIONS = {
    "litert": ("ai_edge_litert", "tflite_runtime"),
    "onnxruntime": ("onnxruntime", "onnxruntime_gpu", "onnxruntime_openvino", "onnxruntime_directml"),
    "torch": ("torch",),
    "tvm": ("apache_tvm", "tvm"),
}
SUFFIX = ".dist-info"
PLACES = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "local/lib/python3*/dist-packages")


def installed_versions(interpreter: str) -> Dict[str, str]:
    """Return the versions of the runtimes that `interpreter` has, by name; those that cannot be told are left out."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))
    found: Dict[str, str] = {}
    for place in PLACES:
        for path in glob.glob(os.path.join(glob.escape(prefix), place, "*" + SUFFIX)):
            name, _, version = os.path.basename(path)[: -len(SUFFIX)].partition("-")
            for runtime, distributions in DISTRIBUTIONS.items():
                if name.replace(".", "_").lower() in distributions:
                    found.setdefault(runtime, version[:80])
    return found
