"""Tries every channel group and block before it is offered: a smaller network must compute what the masked one does.

Trained or freshly initialised weights can hide a wrong coupling (a batch normalisation whose scale is zero passes
nothing on), so the trial runs on a copy with random weights and normalised activations.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from hwloop.pruning.blocks import FixedBlock, RemovableBlock
from hwloop.pruning.candidate import Candidate
from hwloop.pruning.groups import ChannelGroup, FixedGroup
from hwloop.pruning.masking import masked
from hwloop.pruning.surgery import SurgeryPlan
from hwloop.pruning.tracing import flat_tensors
from hwloop.training import torch_threads

TOLERANCE = 1e-4
"""Largest difference that is put down to rounding, relative to the largest output."""

_BATCH = 2
_CALIBRATION_BATCH = 8  # batch normalisation needs several values per channel, also on maps of one pixel
_SEEDS = range(5)
_UNCHANGED = "masking it does not change the outputs, so slicing it cannot be verified"


def verified(
    module: nn.Module,
    input_shape: Sequence[int],
    groups: Sequence[ChannelGroup],
    narrowest: Callable[[ChannelGroup], int],
) -> tuple[tuple[ChannelGroup, ...], tuple[FixedGroup, ...]]:
    """Keep the groups that can really be sliced.

    Each group alone is sliced to its narrowest width, keeping channels chosen at random, and compared with the
    masked full network; then all that passed are sliced together to about half their widths.

    Args:
        module: the network; left untouched.
        input_shape: of one image.
        groups: as traced.
        narrowest: the smallest width of a group that will be asked for.

    Returns:
        The groups that passed, and those that did not with the reason, in the given order.
    """
    with torch_threads(1):  # small batches: more threads mostly wait for each other
        return _verified(_Trials(module, input_shape), groups, narrowest)


def verified_blocks(
    module: nn.Module, input_shape: Sequence[int], blocks: Sequence[RemovableBlock], groups: Sequence[ChannelGroup]
) -> tuple[tuple[RemovableBlock, ...], tuple[FixedBlock, ...]]:
    """Keep the blocks that can really be left out.

    Each block alone is removed, and the network compared with the full one whose branch is silenced; then all that
    passed are removed together, with all groups sliced to about half their widths.

    Args:
        module: the network; left untouched.
        input_shape: of one image.
        blocks: as traced.
        groups: verified groups.

    Returns:
        The blocks that passed, and those that did not with the reason.
    """
    if not blocks:
        return (), ()
    with torch_threads(1):
        trial = _Trials(module, input_shape, blocks)
        passed, failed = [], []
        for block in blocks:
            reason = trial.reason((), (), [block])
            if reason is None:
                passed.append(block)
            else:
                failed.append(FixedBlock(block.name, reason))
        reason = trial.reason(groups, _halves(groups), passed) if passed else None
    if reason is not None:
        failed += [FixedBlock(block.name, f"together with other blocks and groups: {reason}") for block in passed]
        passed = []
    return tuple(passed), tuple(failed)


def _verified(
    trial: _Trials, groups: Sequence[ChannelGroup], narrowest: Callable[[ChannelGroup], int]
) -> tuple[tuple[ChannelGroup, ...], tuple[FixedGroup, ...]]:
    passed: list[ChannelGroup] = []
    failed: dict[str, FixedGroup] = {}
    for group in groups:
        reason = trial.reason([group], [narrowest(group)])
        if reason is None:
            passed.append(group)
        else:
            failed[group.name] = FixedGroup(group.name, reason, group.roots)
    if trial.reason(passed, _halves(passed)) is not None:
        together: list[ChannelGroup] = []
        for group in passed:
            reason = trial.reason([*together, group], _halves([*together, group]))
            if reason is None:
                together.append(group)
            else:
                failed[group.name] = FixedGroup(group.name, f"together with other groups: {reason}", group.roots)
        passed = together
    return tuple(passed), tuple(failed[group.name] for group in groups if group.name in failed)


class _Trials:
    """The same network with other random weights, as many as it takes.

    With few units behind one ReLU, random weights can leave them all at zero: nothing is seen of such a group then,
    and other weights are tried.
    """

    def __init__(self, module: nn.Module, input_shape: Sequence[int], blocks: Sequence[RemovableBlock] = ()) -> None:
        self._make = partial(_Trial, module, input_shape, blocks)
        self._made: dict[int, _Trial] = {}

    def reason(
        self, groups: Sequence[ChannelGroup], widths: Sequence[int], removed: Sequence[RemovableBlock] = ()
    ) -> str | None:
        """As `_Trial.reason`, of the first trial in which the groups do something."""
        for seed in _SEEDS:
            if seed not in self._made:
                self._made[seed] = self._make(seed)
            reason = self._made[seed].reason(groups, widths, removed)
            if reason != _UNCHANGED:
                return reason
        return _UNCHANGED


class _Trial:
    """A network with random weights, an input, and what it computes of it."""

    def __init__(
        self, module: nn.Module, input_shape: Sequence[int], blocks: Sequence[RemovableBlock], seed: int
    ) -> None:
        self._blocks = blocks
        self._generator = torch.Generator().manual_seed(seed)
        self._random = np.random.default_rng(seed)
        self._network = copy.deepcopy(module).to("cpu").eval().requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            self._randomise(input_shape)
        self._images = torch.randn(_BATCH, *input_shape, generator=self._generator)
        self._full = self._outputs(self._network)
        # Deep networks with maps of one pixel amplify rounding a thousandfold: in double precision none is left of it.
        precise, images = copy.deepcopy(self._network).double(), self._images
        try:
            self._images = images.double()
            self._full, self._network = self._outputs(precise), precise
        except RuntimeError:  # a forward function that insists on single precision
            self._images = images

    def reason(
        self, groups: Sequence[ChannelGroup], widths: Sequence[int], removed: Sequence[RemovableBlock] = ()
    ) -> str | None:
        """Return why these groups cannot be sliced to these widths without these blocks, or None if they can."""
        order = {group.name: self._order(group) for group in groups}
        candidate = Candidate(tuple(widths), tuple(block.name for block in removed))
        try:
            plan = SurgeryPlan(self._network, groups, order, self._blocks)
            smaller = plan.apply(candidate)
            sliced = self._outputs(smaller)
        except Exception as error:  # a user's forward pass may raise anything on maps of another width
            text = (str(error).strip() or "no further text").splitlines()[0]
            return f"the sliced network fails: {type(error).__name__}: {text}"
        with masked(self._network, groups, plan.kept(candidate), removed):
            silenced = self._outputs(self._network)
        if [tensor.shape for tensor in sliced] != [tensor.shape for tensor in silenced]:
            return "slicing it changes the shape of the network's outputs"
        scale = max((float(tensor.abs().max()) for tensor in silenced if tensor.numel()), default=0.0)
        difference = _largest_difference(sliced, silenced)
        if not difference <= TOLERANCE * scale:  # also true when either has NaN
            return f"the sliced network differs from the masked one by {difference:.2g} (outputs up to {scale:.2g})"
        if (groups or removed) and all(width < group.width for width, group in zip(widths, groups, strict=True)):
            change = _largest_difference(silenced, self._full)
            if change <= TOLERANCE * scale:
                return _UNCHANGED
        return None

    def _outputs(self, network: nn.Module) -> list[Tensor]:
        with torch.inference_mode():
            return flat_tensors(network(self._images))

    def _order(self, group: ChannelGroup) -> list[int]:
        """Return a random order that keeps the blocks of grouped convolutions aligned."""
        block = group.width // group.divisor
        positions = self._random.permutation(block)
        return [int(part * block + position) for position in positions for part in range(group.divisor)]

    def _randomise(self, input_shape: Sequence[int]) -> None:
        normalisations: list[_BatchNorm] = []
        for layer in self._network.modules():
            own = layer.parameters(recurse=False)
            if isinstance(layer, _ConvNd | nn.Linear):
                fan_in = max(1, math.prod(layer.weight.shape[1:]))
                for parameter in own:
                    spread = math.sqrt(2.0 / fan_in) if parameter.dim() > 1 else 0.2
                    parameter.normal_(0.0, spread, generator=self._generator)
            elif isinstance(layer, _BatchNorm | _InstanceNorm | nn.GroupNorm | nn.LayerNorm):
                _fill(own, self._generator)
                if isinstance(layer, _BatchNorm):
                    normalisations.append(layer)
            else:
                for parameter in own:
                    parameter.add_(torch.empty_like(parameter).uniform_(0.0, 0.5, generator=self._generator))
        for layer in normalisations:
            layer.train()
            layer.momentum = None
        try:
            with torch.no_grad():
                self._network(torch.randn(_CALIBRATION_BATCH, *input_shape, generator=self._generator))
        finally:
            self._network.eval()


def _fill(parameters: Iterable[Tensor], generator: torch.Generator) -> None:
    """Give a normalisation scales around one and shifts around zero."""
    for index, parameter in enumerate(parameters):
        low, high = (0.5, 1.5) if index == 0 else (-0.3, 0.3)
        parameter.uniform_(low, high, generator=generator)


def _halves(groups: Sequence[ChannelGroup]) -> list[int]:
    """Return about half of each width, a multiple of the divisor."""
    return [max(1, group.width // group.divisor // 2) * group.divisor for group in groups]


def _largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    return max((float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)), default=0.0)
