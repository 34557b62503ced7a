"""The short-term fine-tune of every proposal, with weights that are inherited from step to step."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import nn

from hwloop.datasets import ImageSet
from hwloop.errors import StudyError
from hwloop.pruning import Candidate, Carried, Carrier, ChannelGroup, fold, foldable_pairs
from hwloop.search.counting import ErrorCounter
from hwloop.search.evaluation import ErrorResult
from hwloop.search.keep import Keep, packed, unpacked
from hwloop.search.netadapt.lineage import Lineage
from hwloop.search.netadapt.settings import TuningSettings
from hwloop.training import FitConfig, fit


class ShortTermTuner:
    """A `BatchEvaluator`: cut from the parent's weights, fine-tune for a few steps, count errors on held-out images.

    The released code judges on the images that it trains on; here they are held out. What a candidate's weights become
    is decided by its parent's weights, the seed and its own text, so weights that are not kept can be made again by
    training again. The weights of a batch are kept before its results are told, until the next batch shows
    which of them are carried on.

    Args:
        module: the base network; never changed.
        groups: its channel groups, in the order of a candidate's widths.
        text: a candidate as text, unique.
        train: what proposals are fine-tuned on.
        validation: held out of it; what they are judged on.
        settings: of the fine-tune.
        lineage: which the algorithm writes.
        keep: for the weights.
        seed: of the images and their order.
        clock: seconds, for the records.
    """

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[ChannelGroup],
        text: Callable[[Candidate], str],
        train: ImageSet,
        validation: ImageSet,
        settings: TuningSettings,
        lineage: Lineage,
        keep: Keep,
        *,
        seed: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._carrier = Carrier(module, groups)
        self._text = text
        self._train = train
        self._counter = ErrorCounter(validation)
        self._settings = settings
        self._lineage = lineage
        self._keep = keep
        self._seed = seed
        self._clock = clock
        self._pairs = foldable_pairs(module, validation.images.shape[1:])
        self._parent: tuple[Candidate | None, Carried] = (None, self._carrier.base())
        self._batch: list[Candidate] = []

    @property
    def dtype(self) -> str:
        """What errors are counted in."""
        return self._counter.dtype

    def evaluate(self, batch: Sequence[Candidate]) -> Iterable[ErrorResult]:
        """See `BatchEvaluator.evaluate`."""
        parents = {self._lineage.parent(candidate) for candidate in batch}
        for candidate in self._batch:
            if candidate not in parents and candidate not in batch:
                self._keep.drop(self._name(candidate))
        self._batch = [candidate for candidate in self._batch if candidate in batch] + list(batch)
        for index, candidate in enumerate(batch):
            begin = self._clock()
            network = self._tuned(candidate)
            yield ErrorResult(index, self._error(network), self._clock() - begin)

    def network(self, candidate: Candidate) -> nn.Module:
        """A candidate of the search with the weights that it was judged with."""
        carried = self._carried(candidate)
        return self._carrier.plan(carried).apply(candidate)

    def _tuned(self, candidate: Candidate) -> nn.Module:
        """Cut and fine-tune a candidate; its weights are kept when this returns."""
        parent = self._lineage.parent(candidate)
        if parent != self._parent[0]:
            self._parent = (parent, self._carrier.base() if parent is None else self._carried(parent))
        plan = self._carrier.plan(self._parent[1])
        network = plan.apply(candidate)
        if parent is not None and self._settings.steps:
            self._fit(network, candidate)
        if parent is not None:
            self._keep.write(self._name(candidate), _file(self._carrier.carry(network, plan, candidate)))
        return network

    def _fit(self, network: nn.Module, candidate: Candidate) -> None:
        given = self._settings
        seed = int.from_bytes(hashlib.sha256(f"{self._seed} {self._text(candidate)}".encode()).digest()[:4])
        wanted = min(len(self._train), given.steps * given.batch_size)
        rows = np.random.default_rng(seed).permutation(len(self._train))[:wanted]
        per_epoch = max(1, wanted // given.batch_size)
        fit(
            network,
            self._train.take(rows),
            config=FitConfig(
                epochs=math.ceil(given.steps / per_epoch),
                learning_rate=given.learning_rate,
                batch_size=given.batch_size,
                weight_decay=given.weight_decay,
                augment=given.augment,
                flip=given.flip,
                seed=seed,
            ),
        )

    def _carried(self, candidate: Candidate) -> Carried:
        if self._lineage.parent(candidate) is None:
            return self._carrier.base()
        name = self._name(candidate)
        found = self._keep.read(name)
        if found is None:
            self._tuned(candidate)
            found = self._keep.read(name)
        if found is None:
            raise StudyError(f"the weights of {self._text(candidate)} were written and are gone: is the disk shared?")
        content = unpacked(found, f"{name}, the weights of {self._text(candidate)},", "delete it: they are made again")
        return Carried(content["state"], {group: tuple(kept) for group, kept in content["kept"].items()})

    def _error(self, network: nn.Module) -> float:
        fold(network, self._pairs)
        return self._counter.error(network)

    def _name(self, candidate: Candidate) -> str:
        return hashlib.sha256(self._text(candidate).encode()).hexdigest()[:16] + ".pt"


def _file(carried: Carried) -> bytes:
    return packed({"state": dict(carried.state), "kept": {name: list(kept) for name, kept in carried.kept.items()}})
