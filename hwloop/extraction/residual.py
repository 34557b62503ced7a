"""Residual blocks in a graph of operations: a sum, where its two operands part, and what lies in between.

Knows nothing of what the operations are, so it serves torch's graphs and those of ONNX files alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fork:
    """A sum of two operands that are computed from one tensor, and on nothing else.

    Operations are numbered in topological order.

    Attributes:
        at: the operation whose result both operands are computed from; -1: before all operations.
        sum: the operation that adds them.
        operands: the operations that make them; one of them may be `at` itself, which is then an identity shortcut.
        between: for each operand, the operations from `at` (not included) to the operand.
        closed: for each operand, whether only the sum and operations of the same path read what lies on the path.
    """

    at: int
    sum: int
    operands: tuple[int, int]
    between: tuple[frozenset[int], frozenset[int]]
    closed: tuple[bool, bool]


def find_forks(inputs: Sequence[Sequence[int]], sums: Collection[int], outputs: Collection[int]) -> tuple[Fork, ...]:
    """Find every sum whose operands part at one operation and do not touch before they meet.

    Args:
        inputs: for each operation the operations that it reads, each before it; -1 is the network's input. An operation
            without any reads constants only and parts nothing.
        sums: the operations that add two tensors of one shape.
        outputs: whose results the network returns.

    Returns:
        The forks, in the order of their sums.
    """
    dominator = _dominators(inputs)
    readers: list[list[int]] = [[] for _ in inputs]
    for at, sources in enumerate(inputs):
        for source in sources:
            if source >= 0:
                readers[source].append(at)
    found = []
    for total in sorted(sums):
        parting = dominator[total]
        if len(inputs[total]) != 2 or parting is None:
            continue
        first, second = inputs[total]
        between = _between(parting, first, inputs), _between(parting, second, inputs)
        if between[0] & between[1] or not (between[0] or between[1]):
            continue
        closed = [
            all(set(readers[each]) <= path | {total} and each not in outputs for each in path) for path in between
        ]
        found.append(Fork(parting, total, (first, second), between, (closed[0], closed[1])))
    return tuple(found)


def _dominators(inputs: Sequence[Sequence[int]]) -> list[int | None]:
    """The last operation that every path from the input to each operation passes; None: computed from constants."""
    dominator: list[int | None] = []
    for sources in inputs:
        live = [each for each in sources if each < 0 or dominator[each] is not None]
        common: int | None = None
        for source in live:
            common = source if common is None else _meet(common, source, dominator)
        dominator.append(common)
    return dominator


def _meet(one: int, other: int, dominator: Sequence[int | None]) -> int:
    while one != other:
        later = max(one, other)
        above = dominator[later]
        assert above is not None
        one, other = min(one, other), above
    return one


def _between(at: int, operand: int, inputs: Sequence[Sequence[int]]) -> frozenset[int]:
    """What is computed after `at` on the way to an operand, the operand included; constants on the way too."""
    found: set[int] = set()
    waiting = [operand]
    while waiting:
        each = waiting.pop()
        if each == at or each in found or each < 0:
            continue
        found.add(each)
        waiting.extend(inputs[each])
    return frozenset(found)
