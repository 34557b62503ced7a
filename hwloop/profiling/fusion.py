"""Whether a runtime executes two neighbouring operations as one, decided by what they cost. Pure.

The pair test of nn-Meter (Zhang et al., MobiSys 2021, section 4.1): two operations are measured alone and joined; where
the second one costs nothing when it stands behind the first, it was fused. There the rule is a fixed share of the
cheaper operation; here the noise floor says how sure that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["fused", "apart", "undecided"]
HALF = 0.5


@dataclass(frozen=True)
class PairVerdict:
    """What a pair test found.

    Attributes:
        answer: "undecided" where the noise is larger than the difference between the two answers.
        share: of the second operation's own cost that remains behind the first: 0 fused, 1 apart.
        margin: what noise may have done to `share`.
    """

    answer: Answer
    share: float
    margin: float


def judge_pair(first_ms: float, second_ms: float, joined_ms: float, floor_ms: float, noise: float) -> PairVerdict:
    """Decide one pair.

    Args:
        first_ms: latency of the first operation, alone.
        second_ms: of the second, alone.
        joined_ms: of the first with the second behind it.
        floor_ms: of an artifact that does nothing: what every call costs, and a second operation saves.
        noise: relative difference between two processes that measured the same.
    """
    alone = second_ms - floor_ms
    if alone <= 0:
        return PairVerdict("undecided", float("nan"), float("inf"))
    share = (joined_ms - first_ms) / alone
    # Both latencies of the difference may be off by the noise.
    margin = noise * (joined_ms + first_ms) / alone
    answer: Answer = "undecided"
    if share + margin < HALF:
        answer = "fused"
    elif share - margin > HALF:
        answer = "apart"
    return PairVerdict(answer, share, margin)
