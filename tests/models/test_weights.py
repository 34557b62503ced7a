"""Weights are loaded strictly, and never run code."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from hwloop.errors import ModelError
from hwloop.models import build_model, load_weights


def _network() -> nn.Module:
    torch.manual_seed(1)
    return build_model("resnet8", num_classes=10, in_channels=3)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_plain_nested_and_prefixed_checkpoints_load(tmp_path: Path, nested: bool, prefix: str) -> None:
    source = _network()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3} if nested else state, tmp_path / "weights.pt")
    target = build_model("resnet8", num_classes=10, in_channels=3)
    load_weights(target, tmp_path / "weights.pt")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


def test_weights_of_another_network_are_refused_by_key_and_change_nothing(tmp_path: Path) -> None:
    torch.save(build_model("resnet20", num_classes=10, in_channels=3).state_dict(), tmp_path / "twenty.pt")
    network = _network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ModelError, match=r"layer1\.1\.conv1\.weight is unknown to the network.*more") as caught:
        load_weights(network, tmp_path / "twenty.pt")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_weight_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    torch.save(build_model("resnet8", num_classes=7, in_channels=3).state_dict(), tmp_path / "seven.pt")
    with pytest.raises(ModelError, match=r"linear\.weight has shape \(7, 64\), the network wants \(10, 64\)"):
        load_weights(_network(), tmp_path / "seven.pt")


class _Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": _Exploit()}))
    torch.save({"state_dict": _Exploit()}, tmp_path / "evil_zip.pt")
    for name in ("evil.pt", "evil_zip.pt"):
        with pytest.raises(ModelError, match="can load safely"):
            load_weights(_network(), tmp_path / name)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken zip"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.pt") as caught:
        load_weights(_network(), tmp_path / "weights.pt")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.pt: no such weights file"):
        load_weights(_network(), tmp_path / "absent.pt")


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="holds no state_dict"):
        load_weights(_network(), tmp_path / "list.pt")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet20", "resnet20-12fca82f.th"),
        ("resnet32", "resnet32-d509ac18.th"),
        ("resnet44", "resnet44-014dd654.th"),
        ("resnet56", "resnet56-4bfd9763.th"),
        ("resnet20", "resnet20-jpeg.pt"),
        ("resnet56", "resnet56-jpeg.pt"),
    ],
)
def test_published_weights_load_into_the_networks(shared_data: Path, name: str, file: str) -> None:
    load_weights(build_model(name, num_classes=10, in_channels=3), shared_data / "weights" / file)
