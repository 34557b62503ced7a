"""Does a network fit into memory? A trial that would swap measures the SD card, so it is refused before it begins."""

from __future__ import annotations

from typing import Any, Dict, Optional

from hwloop_agent.sysfiles import SysFiles, read_fields, read_kibibytes

# An artifact is in memory twice while it is loaded: as the file, and as the runtime keeps its weights (repacked).
COPIES = 2
# A runtime without a network: onnxruntime with numpy has about 65 MB resident.
RUNTIME_BYTES = 64 << 20
# The estimate knows nothing of activations; half as much again has to be free (benchmark notes, row 15).
HEADROOM = 1.5
ELEMENT_BYTES = {"float64": 8, "int64": 8, "float16": 2, "int8": 1, "uint8": 1, "bool": 1}


def needed_bytes(spec: Dict[str, Any]) -> int:
    """Return a low estimate of what a trial needs: runtime, artifact and inputs, without activations."""
    inputs = 0
    for one in spec["inputs"]:
        elements = 1
        for size in one["shape"]:
            elements *= size
        inputs += elements * ELEMENT_BYTES.get(one["dtype"], 4)
    artifact = spec["artifact"]["size"] if spec["artifact"] else 0
    return COPIES * int(artifact) + COPIES * inputs + RUNTIME_BYTES


def refusal(files: SysFiles, spec: Dict[str, Any]) -> Optional[str]:
    """Return why a trial is refused for want of memory; None where there is enough, or where nobody can tell."""
    if spec["artifact"] is None:
        return None
    available = read_kibibytes(read_fields(files.proc("meminfo"), ":"), "MemAvailable")
    needed = HEADROOM * needed_bytes(spec)
    if available is None or available >= needed:
        return None
    return (
        f"{available / 1e6:.0f} MB of memory are available, and this network needs {needed / 1e6:.0f} MB to be measured"
        " without swapping: end other programs, or take a smaller network"
    )
