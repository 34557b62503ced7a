"""Residual blocks in a graph of operations: a sum, where its two operands part, and what lies in between.

Knows nothing of what the operations are, so it serves torch's graphs and those of ONNX files alike.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fork:
    """A sum of two operands of which one is computed from the other, or both from one tensor.

    Operations are numbered in topological order.

    Attributes:
        sum: the operation that adds them.
        operands: the operations that make them; -1 is the network's input.
        identity: which of the two the other one is computed from; None: both are computed from a third tensor, by
            operations that have none in common.
        paths: for each operand, the operations from where the two part to the operand; constants among them.
        cones: for each operand, the operations that nothing needs if the sum is replaced by the other operand.
    """

    sum: int
    operands: tuple[int, int]
    identity: int | None
    paths: tuple[frozenset[int], frozenset[int]]
    cones: tuple[frozenset[int], frozenset[int]]


def find_forks(inputs: Sequence[Sequence[int]], sums: Collection[int], outputs: Collection[int]) -> tuple[Fork, ...]:
    """Find every sum whose operands part at one tensor.

    Args:
        inputs: for each operation the operations that it reads, each before it; -1 is the network's input. An operation
            without any reads constants only and parts nothing.
        sums: the operations that add two tensors of one shape.
        outputs: whose results the network returns.

    Returns:
        The forks, in the order of their sums.
    """
    dominator = _dominators(inputs)
    readers: list[set[int]] = [set() for _ in inputs]
    for at, sources in enumerate(inputs):
        for source in sources:
            if source >= 0:
                readers[source].add(at)
    found = []
    for total in sorted(sums):
        parting = dominator[total]
        if len(set(inputs[total])) != 2 or parting is None:
            continue
        first, second = inputs[total]
        above = _above(first, inputs), _above(second, inputs)
        identity = 0 if first in above[1] else 1 if second in above[0] else None
        if identity is None:
            common = _above(parting, inputs)
            paths = above[0] - common, above[1] - common
            if paths[0] & paths[1] or -1 in paths[0] | paths[1]:
                continue
        else:
            paths = above[0] - above[1], above[1] - above[0]
        cones = (
            _cone(first, total, inputs, readers, outputs),
            _cone(second, total, inputs, readers, outputs),
        )
        found.append(Fork(total, (first, second), identity, paths, cones))
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


def _above(operation: int, inputs: Sequence[Sequence[int]]) -> frozenset[int]:
    """An operation and all that it is computed from, the network's input (-1) and constants included."""
    found: set[int] = set()
    waiting = [operation]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting.extend(inputs[each] if each >= 0 else ())
    return frozenset(found)


def _cone(
    operand: int,
    total: int,
    inputs: Sequence[Sequence[int]],
    readers: Sequence[Collection[int]],
    outputs: Collection[int],
) -> frozenset[int]:
    """What only one operand of a sum needs."""
    found: set[int] = set()
    for each in sorted(_above(operand, inputs), reverse=True):
        needed = {total} if each == operand else found
        if each >= 0 and each not in outputs and set(readers[each]) <= needed:
            found.add(each)
    return frozenset(found)
