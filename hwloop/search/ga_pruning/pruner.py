"""Rounds of evolution and retraining, journalled; a run that was cut off goes on with the round it was in."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from hwloop.datasets import ImageSet
from hwloop.errors import DivergedError, StudyError
from hwloop.progress import Progress
from hwloop.pruning import Carrier
from hwloop.search.counting import ErrorCounter
from hwloop.search.ga_pruning.anatomy import Anatomy, Census, Genome
from hwloop.search.ga_pruning.evolution import evaluations, evolve
from hwloop.search.ga_pruning.living import Living
from hwloop.search.ga_pruning.settings import GaSettings
from hwloop.search.keep import Keep, packed, unpacked
from hwloop.search.record import Journal
from hwloop.training import FitConfig, accuracy, fit

FORMAT = 4
"""Version of the records, and of all that decides what a round does."""

MOST_HALVED = 3
"""Times that the rate of a retraining is halved."""


@dataclass(frozen=True)
class Round:
    """One round of evolution and retraining.

    Attributes:
        number: from 1.
        fitness: of the fittest genome, before retraining.
        error: of the retrained elite on all held-out images, in float32.
        census: what is left of it.
        accepted: it loses no more than the tolerance; else the next round begins where this one began.
        evaluations: genomes evaluated.
        learning_rate: of the retraining; 0 without one.
        seconds: of evolution and retraining.
    """

    number: int
    fitness: float
    error: float
    census: Census
    accepted: bool
    evaluations: int
    learning_rate: float
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """The journal's record."""
        return {"kind": "round", **asdict(self)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Round:
        """The inverse of `to_record`.

        Raises:
            StudyError: the record is no round.
        """
        try:
            fields = {name: record[name] for name in cls.__dataclass_fields__}
            return cls(**{**fields, "census": Census(**fields["census"])})
        except (KeyError, TypeError) as error:
            raise StudyError(f"the journal of ga-pruning holds a record that is no round: {error!r}") from error


@dataclass(frozen=True)
class GaResult:
    """What the rounds came to.

    Attributes:
        base_error: of the unpruned network on the held-out images.
        rounds: all of them.
        network: the accepted elite with the smallest fitness after retraining; the unpruned one when none was accepted.
        chosen: the round it is of; 0 for the unpruned network.
        census: what is left of it.
        error: its share of wrong answers on the held-out images.
    """

    base_error: float
    rounds: tuple[Round, ...]
    network: nn.Module
    chosen: int
    census: Census
    error: float


def run_ga_pruning(
    module: nn.Module,
    train: ImageSet,
    validation: ImageSet,
    settings: GaSettings,
    *,
    seed: int,
    journal: Journal,
    keep: Keep,
    progress: Progress,
    clock: Callable[[], float] = time.perf_counter,
) -> GaResult:
    """Prune the weights of a network, or go on with it.

    Args:
        module: the pretrained network; never changed.
        train: for the retraining.
        validation: held out; every choice is made on these images.
        settings: coefficients and budget.
        seed: of all random choices; those of a round depend on it and the round's number alone.
        journal: empty, or of an earlier run.
        keep: for the elites.
        progress: shown one unit per round.
        clock: seconds, for the records.

    Raises:
        StudyError: the journal is of another run, or an elite is gone.
        ModelError: the network has layers that cannot be followed.
    """
    shape = validation.images.shape[1:]
    anatomy = Anatomy(module, shape)
    module = copy.deepcopy(module).eval()
    base = _genome(module)
    unpruned = anatomy.census(base)
    carrier = Carrier(module, anatomy.groups)
    _claim(journal, {"settings": settings.to_record(), "seed": seed, "base": _digest(module)})
    rounds = [Round.from_record(record) for record in journal.records[1:]]
    base_error = 1 - accuracy(module, validation)
    state = _state(keep, rounds) or module.state_dict()
    with progress.step("rounds of evolution and retraining", total=settings.rounds, done=len(rounds)) as step:
        for number in range(len(rounds) + 1, settings.rounds + 1):
            if _gave_up(rounds, settings.patience):
                progress.say(f"ga-pruning: {settings.patience} rounds in a row lost too much accuracy; it ends here")
                break
            begin = clock()
            rng = np.random.default_rng((seed, number))
            images = validation.take(np.sort(rng.permutation(len(validation))[: settings.images]))
            part = Living(state, anatomy, carrier, unpruned, shape)
            errors = _errors(part.network, images)
            weighed = settings.after([each.accepted for each in rounds])
            fittest = evolve(part.anatomy, _genome(part.network), errors, weighed, rng)
            part.network.load_state_dict(dict(fittest.genome), strict=False)
            part = Living(part.whole(), anatomy, carrier, unpruned, shape)
            rate = _retrain(part.network, module, train, settings, int(rng.integers(2**31)), progress)
            census = part.anatomy.census(_genome(part.network))
            error = 1 - accuracy(part.network, validation)
            accepted = error <= base_error + settings.tolerance + 1e-9
            if accepted:
                state = part.whole()
                keep.write(_name(number), packed(state))
            seconds = round(clock() - begin, 3)
            this = Round(number, fittest.fitness, error, census, accepted, evaluations(settings), rate, seconds)
            journal.append(this.to_record())
            rounds.append(this)
            note = f"{census.parameters_left:.2%} of the parameters, {census.computation_left:.2%} of the computation"
            step.advance(1, f"{note}, error {error:.2%}{'' if accepted else ', undone'}")
    best = min(
        (each for each in rounds if each.accepted),
        key=lambda one: settings.fitness(one.error, one.census.computation_left, one.census.parameters_left),
        default=None,
    )
    if best is not None:
        module.load_state_dict(_elite(keep, best.number))
        return GaResult(base_error, tuple(rounds), module, best.number, best.census, best.error)
    module.load_state_dict({**module.state_dict(), **base})
    return GaResult(base_error, tuple(rounds), module, 0, anatomy.census(base), base_error)


def _genome(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def _errors(module: nn.Module, images: ImageSet) -> Callable[[Genome], float]:
    """The error of a genome on some images."""
    counter = ErrorCounter(images)
    frame = copy.deepcopy(module)

    def error(genome: Genome) -> float:
        frame.load_state_dict(dict(genome), strict=False)
        return counter.error(frame)

    return error


def _retrain(
    module: nn.Module, unpruned: nn.Module, train: ImageSet, settings: GaSettings, seed: int, progress: Progress
) -> float:
    """Train what is not zero; where that diverges, again at half the rate.

    Returns:
        The rate; 0 without a retraining.

    Raises:
        DivergedError: at an eighth of the rate too.
    """
    if not settings.epochs:
        return 0.0
    before, rate = copy.deepcopy(module.state_dict()), settings.learning_rate
    while True:
        config = FitConfig(
            epochs=settings.epochs,
            learning_rate=rate,
            batch_size=settings.batch_size,
            weight_decay=settings.weight_decay,
            distillation=settings.distillation,
            seed=seed,
        )
        try:
            with _zeros_frozen(module):
                fit(module, train, config=config, teacher=unpruned if config.taught else None)
            return rate
        except DivergedError as error:
            if rate <= settings.learning_rate / 2**MOST_HALVED:
                raise
            progress.say(f"ga-pruning: {error}; again at half of it")
            module.load_state_dict(before)
            rate /= 2


@contextmanager
def _zeros_frozen(module: nn.Module) -> Iterator[None]:
    """Parameters that are zero get no gradient inside the block: momentum and decay leave them where they are."""

    def masked(mask: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda gradient: gradient * mask

    hooks = [
        tensor.register_hook(masked((tensor != 0).to(tensor.dtype)))  # type: ignore[no-untyped-call]  # as in torch
        for tensor in module.parameters()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gave_up(rounds: list[Round], patience: int) -> bool:
    return len(rounds) >= patience and not any(each.accepted for each in rounds[-patience:])


def _claim(journal: Journal, identity: Mapping[str, Any]) -> None:
    """Begin a journal, or refuse that of another run."""
    mine = {"kind": "ga-pruning", "format": FORMAT, **identity}
    if not journal.records:
        journal.append(mine)
        return
    first = journal.records[0]
    # A finished run may be given more rounds or more patience.
    open_ended = ("rounds", "patience")
    before, now = ({**each.get("settings", {}), **dict.fromkeys(open_ended)} for each in (first, mine))
    differing = [name for name, value in now.items() if before.get(name) != value]
    differing += [name for name in ("kind", "format", "seed", "base") if first.get(name) != mine[name]]
    if differing:
        raise StudyError(
            f"the journal is of another run of ga-pruning (another {', '.join(differing)}); use the same settings, or"
            " another folder"
        )


def _state(keep: Keep, rounds: list[Round]) -> dict[str, Tensor] | None:
    """The weights that the next round begins with; None for those of the unpruned network."""
    last = max((each.number for each in rounds if each.accepted), default=None)
    return None if last is None else _elite(keep, last)


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _name(number: int) -> str:
    return f"elite-{number:03d}.pt"


def _elite(keep: Keep, number: int) -> dict[str, Tensor]:
    content = keep.read(_name(number))
    if content is None:
        raise StudyError(f"{_name(number)} is gone, which the journal of ga-pruning names; restore it, or begin anew")
    return unpacked(content, _name(number), "restore it, or begin anew")
