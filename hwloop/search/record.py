"""What a search writes down: its fingerprint first, then every evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Protocol

from hwloop.errors import StudyError
from hwloop.pruning import Candidate
from hwloop.search.hardware import Sent, Taken, entry_of
from hwloop.search.problem import SearchSpace

FORMAT = 4
"""Version of the records, and of all that decides which candidates are asked for."""

LIBRARIES = ("moocore", "numpy", "pymoo", "scikit-learn", "scipy")
"""Of them the random streams, operators and fits that a replay relies on."""

SAME = 1e-9
"""Relative difference up to which a predicted value counts as unchanged: processors round differently."""


class Journal(Protocol):
    """Append-only records; `hwloop_agent.journal.Journal` is one."""

    records: list[dict[str, Any]]

    def append(self, rec: dict[str, Any]) -> int:
        """Write one record, durably."""
        ...


@dataclass(frozen=True)
class Evaluated:
    """A candidate with its objectives.

    Attributes:
        text: the candidate for people.
        candidate: widths and removed blocks.
        values: of the objectives, in the search's order; all minimised.
        generation: in which it was first asked for, from 0.
        seconds: that evaluating its error took; 0 when no error was asked for.
        failure: why it could not be evaluated; its values are then those of the reference point, and it belongs to no
            front.
    """

    text: str
    candidate: Candidate
    values: tuple[float, ...]
    generation: int
    seconds: float
    failure: str = ""

    def to_record(self, names: Sequence[str]) -> dict[str, Any]:
        """The journal's record."""
        return {
            "kind": "evaluation",
            "candidate": self.text,
            "widths": list(self.candidate.widths),
            "removed": list(self.candidate.removed),
            "objectives": dict(zip(names, self.values, strict=True)),
            "seconds": self.seconds,
            "generation": self.generation,
            **({"failure": self.failure} if self.failure else {}),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], names: Sequence[str]) -> Evaluated:
        """The inverse of `to_record`.

        Raises:
            StudyError: the record is not one of this search.
        """
        try:
            return cls(
                text=str(record["candidate"]),
                candidate=Candidate(
                    tuple(int(width) for width in record["widths"]), tuple(str(name) for name in record["removed"])
                ),
                values=tuple(float(record["objectives"][name]) for name in names),
                generation=int(record["generation"]),
                seconds=float(record["seconds"]),
                failure=str(record.get("failure", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StudyError(f"the search journal holds a record that is no evaluation: {error!r}") from error


@dataclass(frozen=True)
class Fingerprint:
    """What decides which candidates a search asks for, and in which order.

    Attributes:
        space: base network and levels of every group.
        objectives: names, in order.
        algorithm: name.
        population: size.
        seed: of every random choice.
        versions: of the libraries whose random streams and operators the replay relies on.
        context: what else must be the same, such as the judge's settings and the data's fingerprint.
    """

    space: Mapping[str, Any]
    objectives: tuple[str, ...]
    algorithm: str
    population: int
    seed: int
    versions: Mapping[str, str]
    context: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        objectives: tuple[str, ...],
        algorithm: str,
        population: int,
        seed: int,
        context: Mapping[str, str],
    ) -> Fingerprint:
        """The fingerprint of a search with the libraries that are installed."""
        return cls(
            space={
                "base": space.text(space.base),
                "levels": [list(map(int, space.levels(group))) for group in range(len(space.base.widths))],
                "blocks": [str(block.name) for block in space.blocks],
            },
            objectives=objectives,
            algorithm=algorithm,
            population=population,
            seed=seed,
            versions={library: version(library) for library in LIBRARIES},
            context=dict(context),
        )

    def to_record(self) -> dict[str, Any]:
        """The journal's first record."""
        return {
            "kind": "search",
            "format": FORMAT,
            "space": dict(self.space),
            "objectives": list(self.objectives),
            "algorithm": self.algorithm,
            "population": self.population,
            "seed": self.seed,
            "versions": dict(self.versions),
            "context": dict(self.context),
        }

    def refuse_other(self, record: Mapping[str, Any]) -> None:
        """Check the first record of a journal.

        Raises:
            StudyError: it is not a search's, or of another search; the text names what differs.
        """
        mine = self.to_record()
        if record.get("kind") != "search":
            raise StudyError("the search journal does not begin with a search: it is another file, or damaged")
        differing = [
            _difference(name, record.get(name), value) for name, value in mine.items() if record.get(name) != value
        ]
        if differing:
            raise StudyError(
                f"the search journal is of another search: {'; '.join(differing)};"
                " use the same settings, or another study directory"
            )


def _difference(name: str, before: object, now: object) -> str:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
        if name == "space":
            return f"space ({' and '.join(keys)} of the candidates)"
        return ", ".join(f"{name} {key} was {before.get(key)}, is {now.get(key)}" for key in keys)
    return f"{name} was {_words(before)}, is {_words(now)}"


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


class History:
    """The journal of a search, opened: what is in it answers the algorithm again, the rest is appended.

    Args:
        journal: new, or of an earlier run of the same search.
        fingerprint: of this search.
        names: of the objectives.

    Raises:
        StudyError: the journal is of another search, or holds a candidate twice.
    """

    def __init__(self, journal: Journal, fingerprint: Fingerprint, names: tuple[str, ...]) -> None:
        self._journal = journal
        self._names = names
        self._found: dict[Candidate, Evaluated] = {}
        self.sent: dict[int, Sent] = {}
        self.taken: dict[int, Taken] = {}
        if journal.records:
            fingerprint.refuse_other(journal.records[0])
            for record in journal.records[1:]:
                entry = entry_of(record)
                if entry is not None:
                    self._keep(entry)
                    continue
                evaluated = Evaluated.from_record(record, names)
                if evaluated.candidate in self._found:
                    raise StudyError(f"the search journal holds {evaluated.text} twice: it is damaged")
                self._found[evaluated.candidate] = evaluated
        else:
            journal.append(fingerprint.to_record())
        self.replayable = len(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, candidate: Candidate) -> Evaluated | None:
        """What is known of a candidate."""
        return self._found.get(candidate)

    def add(self, evaluated: Evaluated) -> None:
        """Keep a new evaluation; it is in the journal when this returns."""
        self._journal.append(evaluated.to_record(self._names))
        self._found[evaluated.candidate] = evaluated

    def note(self, entry: Sent | Taken) -> None:
        """Keep what was sent to the device, or taken from it; it is in the journal when this returns."""
        self._journal.append(entry.to_record())
        self._keep(entry)

    def reached(self, generation: int) -> bool:
        """Whether anything of a generation, or of a later one, was evaluated."""
        return any(evaluated.generation >= generation for evaluated in self._found.values())

    def of_generation(self, generation: int) -> set[Candidate]:
        """All candidates that were first asked for in a generation."""
        return {candidate for candidate, evaluated in self._found.items() if evaluated.generation == generation}

    def _keep(self, entry: Sent | Taken) -> None:
        known: dict[int, Any] = self.sent if isinstance(entry, Sent) else self.taken
        if entry.generation in known:
            raise StudyError(
                f"the search journal holds generation {entry.generation} of the device twice: it is damaged"
            )
        known[entry.generation] = entry


def unchanged(stored: float, recomputed: float) -> bool:
    """Whether a predicted value is still what the journal says."""
    return math.isclose(stored, recomputed, rel_tol=SAME, abs_tol=0.0)
