"""Verification finds couplings that are wrong, whoever claimed them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from hwloop.pruning.groups import ChannelGroup, Coupling
from hwloop.pruning.tracing import trace_groups
from hwloop.pruning.verification import verified


def _without_batch_normalisation(couplings: tuple[Coupling, ...]) -> tuple[Coupling, ...]:
    return tuple(coupling for coupling in couplings if coupling.side != "both")


def _readers_reversed(couplings: tuple[Coupling, ...]) -> tuple[Coupling, ...]:
    return tuple(
        replace(coupling, channels=coupling.channels[::-1]) if coupling.side == "in" else coupling
        for coupling in couplings
    )


def _without_one_root(couplings: tuple[Coupling, ...]) -> tuple[Coupling, ...]:
    return tuple(coupling for coupling in couplings if coupling.target != "layer2.0.shortcut.0")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_without_batch_normalisation, "the sliced network fails: RuntimeError"),
        (_readers_reversed, "the sliced network differs from the masked one"),
        (_without_one_root, "the sliced network fails: RuntimeError"),
    ],
)
def test_a_spoilt_coupling_is_found_and_the_other_groups_stay(
    make: Callable, spoil: Callable[[tuple[Coupling, ...]], tuple[Coupling, ...]], reason: str
) -> None:
    network, shape = make("resnet8-projection")
    traced, _ = trace_groups(network, shape)

    def narrowest(group: ChannelGroup) -> int:
        return max(1, group.width // 10)

    passed, failed = verified(network, shape, traced, narrowest)
    assert passed == traced
    assert failed == ()
    spoilt = [
        replace(group, couplings=spoil(group.couplings)) if group.name == "layer2.0.conv2" else group
        for group in traced
    ]
    passed, failed = verified(network, shape, spoilt, narrowest)
    assert [group.name for group in failed] == ["layer2.0.conv2"]
    assert reason in failed[0].reason
    assert passed == tuple(group for group in traced if group.name != "layer2.0.conv2")


def test_zero_scales_of_an_untrained_network_hide_nothing(make: Callable) -> None:
    network, shape = make("resnet8-projection")
    for path, layer in network.named_modules():
        if path.endswith("bn2"):
            layer.weight.data.zero_()  # every block then passes only its shortcut on
    traced, _ = trace_groups(network, shape)
    spoilt = [replace(group, couplings=_readers_reversed(group.couplings)) for group in traced]
    passed, failed = verified(network, shape, spoilt, lambda group: max(1, group.width // 10))
    assert not passed
    assert len(failed) == len(traced)
