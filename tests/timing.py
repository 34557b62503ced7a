"""How tests time: as shortly as a trial can be and still be one."""

from __future__ import annotations

QUICK = {
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
