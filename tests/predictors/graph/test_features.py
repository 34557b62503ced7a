"""What a predictor sees of a network: the work and its order, never names or the order of the schedule."""

from __future__ import annotations

import pytest

from hwloop.layers import Layer, Network, Node
from hwloop.predictors.graph.encoding import Encoding
from hwloop.predictors.graph.features import SIZES, describe, describe_networks
from hwloop.predictors.graph.flow import Flow
from tests.predictors.graph.conftest import chain, conv, diamond

SHAPE = (1, 8, 16, 16)


def test_names_and_the_order_of_branches_change_nothing() -> None:
    plain = describe(Flow.everything(diamond(3, 2)))
    for other in (diamond(3, 2, swapped=True), diamond(3, 2, prefix="other.")):
        assert describe(Flow.everything(other)) == plain


def test_the_place_of_a_layer_is_seen_where_counts_are_equal() -> None:
    first, second = (describe(Flow.everything(chain([8, 8, 8], kernels=k))) for k in ([3, 3, 1], [3, 1, 3]))
    assert first.counts["layer"] == second.counts["layer"]
    assert first.counts["before"] != second.counts["before"]


def test_before_and_after_are_told_apart() -> None:
    described = describe(Flow.everything(chain([8, 8], kernels=[3, 1])))
    three, one = "conv k3x3s1x1 relu", "conv k1x1s1x1 relu"
    assert described.counts["before"] == {f"(input){three}()": 1, f"({three}){one}()": 1}
    assert described.counts["after"] == {f"(){three}({one})": 1, f"(){one}()": 1}


def test_the_longest_path_is_not_the_number_of_layers() -> None:
    sizes = dict(zip(SIZES, describe(Flow.everything(diamond(3, 2))).sizes, strict=True))
    assert round(2.718281828459045 ** sizes["layers"] - 1) == 7
    assert round(2.718281828459045 ** sizes["depth"] - 1) == 5
    assert round(2.718281828459045 ** sizes["convolutions on the longest path"] - 1) == 4
    assert round(2.718281828459045 ** sizes["forks"] - 1) == 1


@pytest.mark.parametrize("width", [9, 15])
def test_blocks_of_channels_count_whole(width: int) -> None:
    described = describe(Flow.everything(chain([16, width, 16])))
    full = describe(Flow.everything(chain([16, 16, 16])))
    where = "conv k3x3s1x1 relu @256 of 16"
    assert described.counts["blocks"][where] == pytest.approx(full.counts["blocks"][where])
    assert sum(described.counts["macs"].values()) < sum(full.counts["macs"].values())


def test_dead_code_is_not_live() -> None:
    assert Flow.live(chain([8, 8], dead=3)) == Flow.everything(chain([8, 8]))


def test_what_follows_from_constants_is_not_live_and_its_sum_is_the_other_term() -> None:
    nodes = (
        Node("stem", conv(3, 8, 16), (-1,)),
        Node("zeros", Layer("unsupported", (), SHAPE, detail="zeros"), ()),
        Node("of zeros", conv(8, 8, 16), (1,)),
        Node("sum", Layer("add", (SHAPE, SHAPE), SHAPE), (0, 2)),
        Node("last", conv(8, 8, 16), (3,)),
    )
    network = Network(nodes, ((1, 3, 16, 16),), (4,))
    assert len(Flow.everything(network).layers) == 5
    assert Flow.live(network) == Flow.everything(chain([8, 8]))


def test_without_dead_layers_there_is_no_choice_of_flows() -> None:
    assert describe_networks([chain([8, 8]), chain([8, 16])]).choices() == [("everything",)]
    assert len(describe_networks([chain([8, 8]), chain([8, 8], dead=1)]).choices()) == 3


def test_what_no_known_network_has_is_far_from_all_of_them() -> None:
    encoding = Encoding.learned(describe_networks([chain([8] * n) for n in (3, 4, 5)]), ("everything",))
    known, strange = (
        encoding.blocks_of(describe_networks([chain([8] * 4, kernels=[3, kernel, 3, 3])])) for kernel in (3, 5)
    )
    assert all(rows[0, -1] == 0 for rows in known)
    places = {block.kind: place for place, block in enumerate(encoding.blocks)}
    assert strange[places["layer"]][0, -1] > 0
    assert strange[places["macs"]][0, -1] > 0


def test_rows_survive_as_lists() -> None:
    described = describe_networks([chain([8, n]) for n in (3, 4, 5)])
    encoding = Encoding.learned(described, ("everything",))
    raw = encoding.raw(described)
    again = encoding.rows_from_lists(encoding.rows_to_lists(raw))
    assert all((one == other).all() for one, other in zip(raw, again, strict=True))
