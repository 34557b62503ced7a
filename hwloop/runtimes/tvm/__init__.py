"""TVM: kernels of hwloop's own under TVM's compiler, with schedules that were timed.

::

    Layer, torch module, ONNX ─► compiler.import_onnx ─► rewrite (kernels at `tuner`'s schedules) ─► library (.so)
                                                              ▲
                          records (JSON lines) ─► tuner ◄─ timer (this machine, or artifacts on a device)

Nothing here imports TVM before it is needed; `extra.load` does.
"""

from hwloop.runtimes.tvm.records import Records
from hwloop.runtimes.tvm.runtime import DeviceTimer, TvmRuntime
from hwloop.runtimes.tvm.target import TvmTarget, host_target, target_from_facts
from hwloop.runtimes.tvm.timer import HostTimer, Timer
from hwloop.runtimes.tvm.tuner import Choice, Effort, Tuner

__all__ = [
    "Choice",
    "DeviceTimer",
    "Effort",
    "HostTimer",
    "Records",
    "Timer",
    "Tuner",
    "TvmRuntime",
    "TvmTarget",
    "host_target",
    "target_from_facts",
]
