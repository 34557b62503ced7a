"""A copied network equals a deep copy, whatever its modules carry."""

import copy

import torch
from torch import Tensor, nn

from hwloop.pruning.skeleton import copied


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.same = self.layer
        self.listed = [nn.Linear(3, 2), {"inner": torch.ones(2)}]
        self.plain = torch.arange(3.0)
        self.mixed = (self.layer, 1)
        self.names = {"a", "b"}
        self.register_buffer("counter", torch.zeros(()), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = self.same(self.layer(values)) + self.plain
        return result


class _OwnCopy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.copies = 0
        self.layer = nn.Linear(2, 2)

    def __deepcopy__(self, memo: dict[int, object]) -> "_OwnCopy":
        twin = _OwnCopy()
        twin.layer = copy.deepcopy(self.layer, memo)
        twin.copies = self.copies + 1
        return twin


def test_shared_modules_stay_shared_and_nothing_is_shared_with_the_original() -> None:
    original = _Odd()
    twin, memo = copied(original, {})
    assert isinstance(twin, _Odd)
    assert twin.same is twin.layer is twin.mixed[0] is memo[id(original.layer)]
    assert twin.layer is not original.layer
    assert twin.listed[0] is not original.listed[0]
    assert twin.listed[1]["inner"] is not original.listed[1]["inner"]
    assert twin.plain.data_ptr() != original.plain.data_ptr()
    assert twin.names == original.names
    assert twin.names is not original.names
    assert "counter" not in twin.state_dict()
    values = torch.randn(2, 3)
    assert torch.equal(twin(values), original(values))
    twin.register_buffer("late", torch.zeros(1))
    assert not hasattr(original, "late")


def test_replaced_tensors_stand_in_the_copy() -> None:
    original = nn.Linear(4, 4)
    weight = nn.Parameter(torch.ones(2, 4))
    twin, _ = copied(original, {id(original.weight): weight})
    assert twin.weight is weight
    assert torch.equal(twin.bias, original.bias)
    assert twin.bias is not original.bias


def test_a_module_that_copies_itself_is_asked_to() -> None:
    twin, _ = copied(nn.Sequential(_OwnCopy()), {})
    assert twin[0].copies == 1
