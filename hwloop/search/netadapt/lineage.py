"""What was cut from what."""

from __future__ import annotations

from collections.abc import Iterable

from hwloop.pruning import Candidate


class Lineage:
    """For each candidate of a NetAdapt run the network that it was cut from.

    The algorithm writes it as it asks, also when it answers from a journal, so an evaluator that reads it knows of
    every candidate where its weights come from.
    """

    def __init__(self) -> None:
        self._parents: dict[Candidate, Candidate] = {}

    def note(self, parent: Candidate, children: Iterable[Candidate]) -> None:
        """Say that candidates were cut from a network."""
        self._parents |= dict.fromkeys(children, parent)

    def parent(self, candidate: Candidate) -> Candidate | None:
        """The network that a candidate was cut from; None for the base network."""
        return self._parents.get(candidate)
