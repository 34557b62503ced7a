"""What runs on the device: one supervisor, and one disposable worker process per trial.

Standard library only, Python 3.8 or newer, no numpy outside `runtimes/` (the worker gets it with the runtime).
Read in this order: `protocol`, `journal`, `supervisor`, `trialrun`, `worker`, `timing`.
"""

from __future__ import annotations

VERSION = "0.1.0"
