"""How accuracies are told: right answers of so many, with an interval."""

from __future__ import annotations

from typing import Any


def top1(correct: int, images: int) -> dict[str, Any]:
    """Return top-1 accuracy with its 95 % Wilson interval, as JSON-able data."""
    from hwloop.pruning import wilson_interval

    low, high = wilson_interval(correct, images)
    return {"top1": correct / images, "low": low, "high": high, "correct": correct, "images": images}


def told(found: dict[str, Any]) -> str:
    """Return it as text."""
    return (
        f"{100 * found['top1']:.2f} % ({100 * found['low']:.2f}–{100 * found['high']:.2f}), "
        f"{found['correct']} of {found['images']}"
    )
