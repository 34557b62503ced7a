"""GA pruning: what a genome is, what its operators may do, and rounds that survive a kill."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hwloop.datasets import DataConfig, ImageData, load_images
from hwloop.errors import ConfigError, DivergedError, ModelError, StudyError
from hwloop.models import build_model
from hwloop.progress import Silent
from hwloop.pruning import Carrier
from hwloop.search.ga_pruning import EMPHASES, Anatomy, GaResult, GaSettings, run_ga_pruning
from hwloop.search.ga_pruning.evolution import evaluations, evolve
from hwloop.search.ga_pruning.living import Living
from hwloop.search.ga_pruning.operators import crossover, mutate
from hwloop.training import FitConfig, accuracy, fit
from tests.hearing import Heard

SMALL = GaSettings(
    error=1.0, computation=0.5, parameters=1.0, granularity="coarse",
    population=6, generations=3, rounds=3, images=150, epochs=2, batch_size=32, tolerance=0.05,
)  # fmt: skip


def network(name: str = "lenet_caffe", size: int = 16) -> tuple[nn.Module, Anatomy]:
    torch.manual_seed(0)
    channels = 1 if name.startswith("lenet") else 3
    module = build_model(name, num_classes=10, in_channels=channels, image_size=size).eval()
    return module, Anatomy(module, (channels, size, size))


def genome_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.named_parameters()}


def test_the_census_counts_by_hand() -> None:
    module, anatomy = network()
    genome = genome_of(module)
    full = anatomy.census(genome)
    assert full.all_parameters == full.parameters == sum(p.numel() for p in module.parameters())
    assert full.all_computation == full.computation == 20 * 25 * 12 * 12 + 50 * 20 * 25 * 2 * 2
    genome["conv1.weight"][3] = 0  # one filter: its bias and its readers stay
    genome["conv2.weight"][7, 2, :, 1:] = 0  # a kernel with a fifth of its weights left
    census = anatomy.census(genome)
    assert full.parameters - census.parameters == 25 + 20
    assert full.computation - census.computation == 25 * 144
    assert full.fine_computation - census.fine_computation == 25 * 144 + 20 * 4


def test_a_dead_channel_is_zeroed_wherever_it_occurs_and_the_network_computes_the_same() -> None:
    module, anatomy = network()
    genome = genome_of(module)
    genome["conv1.weight"][3], genome["conv1.bias"][3] = 0, 0  # nothing makes it
    genome["fc1.weight"].view(500, 50, -1)[:, 7] = 0  # nothing reads it, over all positions of the map
    genome["fc2.weight"][:, 11] = 0
    settled = anatomy.settled(genome)
    assert not settled["conv2.weight"][:, 3].any()
    assert not settled["conv2.weight"][7].any()
    assert not settled["conv2.bias"][7]
    assert not settled["fc1.weight"][11].any()
    assert not settled["fc1.bias"][11]
    assert settled["conv2.weight"][8, 4].all()
    images = torch.randn(5, 1, 16, 16)
    module.load_state_dict(genome)
    before = module(images)
    module.load_state_dict(settled)
    assert torch.allclose(module(images), before, atol=1e-6)
    assert all(torch.equal(anatomy.settled(settled)[name], tensor) for name, tensor in settled.items())


@pytest.mark.parametrize(("name", "size"), [("lenet_caffe", 16), ("resnet8", 32)])
def test_the_living_part_computes_the_same_counts_the_same_and_goes_back(name: str, size: int) -> None:
    module, anatomy = network(name, size)
    unpruned = anatomy.census(genome_of(module))
    genome, rng = genome_of(module), np.random.default_rng(0)
    for _ in range(8):
        genome = mutate(anatomy, genome, rng, coarse=True, largest_cut=0.4)
    genome = anatomy.settled(genome)
    carrier = Carrier(module, anatomy.groups)
    module.load_state_dict(genome, strict=False)
    shape = (1 if name.startswith("lenet") else 3, size, size)
    part = Living(module.state_dict(), anatomy, carrier, unpruned, shape)
    assert sum(p.numel() for p in part.network.parameters()) < unpruned.all_parameters
    assert part.anatomy.census(genome_of(part.network)) == anatomy.census(genome)
    images = torch.randn(5, *shape)
    assert torch.allclose(part.network(images), module(images), atol=1e-5)
    back = part.whole()
    assert all(torch.equal(back[name], tensor) for name, tensor in genome.items())


def test_a_dead_network_lives_on_in_one_channel() -> None:
    module, anatomy = network()
    genome = genome_of(module)
    genome["conv1.weight"][:], genome["conv1.bias"][:] = 0, 0
    genome["conv2.bias"][:] = 0
    genome = anatomy.settled(genome)
    part = Living(genome, anatomy, Carrier(module, anatomy.groups), anatomy.census(genome_of(module)), (1, 16, 16))
    assert part.network.get_parameter("conv1.weight").shape[0] == 1
    assert all(torch.equal(part.whole()[name], tensor) for name, tensor in genome.items())


def test_errors_weigh_more_after_each_round_that_was_undone_and_less_after_each_other() -> None:
    settings = replace(SMALL, error=3.0, caution=2.0, boldness=1.5)
    assert settings.after([]) == settings
    assert settings.after([True, False, True]).error == pytest.approx(3.0 * 2.0 / 1.5**2)
    with pytest.raises(ConfigError, match=r"boldness is 0\.5: it must be at least 1"):
        replace(settings, boldness=0.5)


def test_channels_of_a_residual_network_are_followed_through_batch_normalisation() -> None:
    module, anatomy = network("resnet8", 32)
    genome = genome_of(module)
    genome["layer1.0.conv1.weight"][2] = 0
    settled = anatomy.settled(genome)
    assert settled["layer1.0.bn1.weight"][2] == settled["layer1.0.bn1.bias"][2] == 0
    assert not settled["layer1.0.conv2.weight"][:, 2].any()


@pytest.mark.parametrize("coarse", [False, True])
def test_mutations_only_add_zeros_and_children_are_made_of_their_parents(coarse: bool) -> None:
    module, anatomy = network()
    rng = np.random.default_rng(3)
    parent = genome_of(module)
    for _ in range(20):
        child = mutate(anatomy, parent, rng, coarse=coarse, largest_cut=0.3)
        assert all(torch.all((child[name] == tensor) | (child[name] == 0)) for name, tensor in parent.items())
        kept = {name: tensor.count_nonzero() / tensor.numel() for name, tensor in child.items()}
        assert any(share < 1 for share in kept.values())
        assert all(child[layer.weight].any() for layer in anatomy.layers)
        if coarse:
            kernels = child["conv2.weight"].flatten(2)
            assert torch.equal(kernels.any(dim=2), kernels.all(dim=2))
        else:
            gone = parent["fc1.weight"][child["fc1.weight"] == 0].abs()
            left = child["fc1.weight"][child["fc1.weight"] != 0].abs()
            assert not len(gone) or gone.max() <= left.min()
        other = {name: tensor + 1 for name, tensor in parent.items()}
        mixed = crossover(anatomy, child, other, rng)
        assert all(torch.all((mixed[n] == child[n]) | (mixed[n] == other[n])) for n in child)
        for layer in anatomy.layers:
            weight = (mixed[layer.weight] == other[layer.weight]).flatten(1).all(dim=1)
            assert torch.equal(mixed[f"{layer.path}.bias"] == other[f"{layer.path}.bias"], weight)


def test_evolution_never_ends_behind_its_ancestor_and_judges_what_it_says() -> None:
    module, anatomy = network()
    judged = []

    def error(genome: Any) -> float:  # what large weights are worth
        judged.append(genome)
        return float(sum((genome[n] - t).square().sum() for n, t in genome_of(module).items())) / 100

    found = evolve(anatomy, genome_of(module), error, SMALL, np.random.default_rng(0))
    assert len(judged) == evaluations(SMALL)
    census = anatomy.census(found.genome)
    again = SMALL.fitness(error(found.genome), census.computation_left, census.parameters_left)
    assert found.fitness == again < SMALL.fitness(0.0, 1.0, 1.0)


@dataclass
class Folder:
    files: dict[str, bytes] = field(default_factory=dict)
    fail_at: int | None = None

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, content: bytes) -> None:
        if self.fail_at == len(self.files):
            raise InterruptedError("killed")
        self.files[name] = content

    def drop(self, name: str) -> None:
        self.files.pop(name, None)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, ImageData]:
    data = load_images(DataConfig(source="digits", image_size=16, seed=0))
    module, _ = network()
    fit(module, data.train, config=FitConfig(epochs=4, learning_rate=0.03, batch_size=32))
    return module.eval(), data


def pruned(trained: Any, journal: Any, keep: Folder, settings: GaSettings = SMALL, seed: int = 5) -> GaResult:
    module, data = trained
    return run_ga_pruning(
        module, data.train, data.validation, settings,
        seed=seed, journal=journal, keep=keep, progress=Silent(), clock=lambda: 0.0,
    )  # fmt: skip


def test_rounds_prune_and_retrain_and_a_killed_run_ends_in_the_same_network(trained: Any, toy: Any) -> None:
    module, data = trained
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    whole, keep = toy.MemoryJournal(), Folder()
    result = pruned(trained, whole, keep)
    accepted = [each for each in result.rounds if each.accepted]
    assert accepted
    assert [each.census.parameters for each in accepted] == sorted(e.census.parameters for e in accepted)[::-1]
    assert result.census.parameters_left < 0.9
    assert result.error <= result.base_error + SMALL.tolerance
    zeros = sum(int((tensor == 0).sum()) for tensor in result.network.parameters())
    assert zeros == result.census.all_parameters - result.census.parameters  # retraining left them
    assert accuracy(result.network, data.validation) == pytest.approx(1 - result.error, abs=0.02)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())

    journal, torn = toy.MemoryJournal(), Folder(fail_at=1)
    with pytest.raises(InterruptedError):
        pruned(trained, journal, torn)
    torn.fail_at = None
    again = pruned(trained, journal, torn)
    assert json.dumps(journal.records) == json.dumps(whole.records)
    for name, tensor in result.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor)
    assert pruned(trained, journal, torn).rounds == result.rounds  # finished: nothing is done again
    assert len(pruned(trained, journal, torn, replace(SMALL, rounds=4)).rounds) == 4  # or it goes on

    with pytest.raises(StudyError, match="another seed"):
        pruned(trained, journal, torn, seed=6)
    with pytest.raises(StudyError, match="another error"):
        pruned(trained, journal, torn, replace(SMALL, error=2.0))
    with pytest.raises(StudyError, match="gone, which the journal of ga-pruning names"):
        pruned(trained, journal, Folder())


def test_rounds_that_lose_too_much_are_undone_until_patience_ends(trained: Any, toy: Any) -> None:
    module, _data = trained
    reckless = replace(SMALL, error=1e-6, largest_cut=0.99, generations=6, epochs=0, tolerance=0.0, patience=2)
    result = pruned(trained, toy.MemoryJournal(), Folder(), reckless)
    assert [each.accepted for each in result.rounds] == [False, False]
    assert result.chosen == 0
    assert result.census.parameters == result.census.all_parameters
    for name, tensor in module.state_dict().items():
        assert torch.equal(result.network.state_dict()[name], tensor)


def test_what_cannot_be_followed_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(ModelError, match="is a Conv2d in groups"):
        Anatomy(build_model("mobilenet_v2", num_classes=10, in_channels=3, image_size=32), (3, 32, 32))
    with pytest.raises(ConfigError, match="population is 1: it must be at least 2"):
        replace(EMPHASES["sparsity"], population=1)


def test_a_retraining_that_diverges_is_done_again_at_half_the_rate(trained: Any, toy: Any) -> None:
    module, data = trained

    def run(rate: float, told: Heard) -> GaResult:
        return run_ga_pruning(
            module, data.train, data.validation, replace(SMALL, rounds=1, learning_rate=rate),
            seed=5, journal=toy.MemoryJournal(), keep=Folder(), progress=told,
        )  # fmt: skip

    told = Heard()
    (only,) = run(0.1, told).rounds
    assert only.error < 0.5  # it was trained in the end
    assert only.learning_rate in (0.05, 0.025, 0.0125)
    assert [line for line in told.lines if "which is 0.1; again at half of it" in line]
    with pytest.raises(DivergedError, match="lower learning_rate, which is 1000"):
        run(8000.0, Heard())
