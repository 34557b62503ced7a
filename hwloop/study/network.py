"""A trained network on disk: weights, and what is needed to build the network that they are of; never a pickled module.

The description is a text beside the weights, under `about`: the model's name and arguments, the shape and normalisation
of its images, its classes. Of a pruned network it has the candidate's text and its space besides: the base network,
which the name gives, is sliced along them, and takes the weights. With the order of the channels, which is there too,
the base's own weights give the same network again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwloop.datasets import ImageData, require_outputs
from hwloop.errors import CheckpointError, ModelError
from hwloop.files import write_atomic
from hwloop.models import build_model
from hwloop.models.weights import load_state, read_checkpoint
from hwloop.pruning import PruningSpace, SurgeryPlan

ABOUT, NETWORK = "about", "network"


@dataclass(frozen=True)
class Pruned:
    """What was cut.

    Attributes:
        text: of the candidate.
        space: record of its space.
        order: of the channels, by group.
        criterion: that ordered them.
    """

    text: str
    space: dict[str, Any]
    order: dict[str, tuple[int, ...]]
    criterion: str


@dataclass(frozen=True)
class Description:
    """What a network is, besides its weights.

    Attributes:
        model: name of the zoo, or "package.module:factory".
        input_shape: (channels, height, width).
        classes: names, one per output.
        mean: per channel, subtracted from the images.
        std: per channel, that they are divided by.
        arguments: of the factory.
        pruned: None for the base network.
    """

    model: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    pruned: Pruned | None = None

    @classmethod
    def of(cls, model: str, data: ImageData, arguments: Mapping[str, Any]) -> Description:
        """Describe an unpruned network for a data set."""
        return cls(model, data.input_shape, data.classes, data.mean, data.std, dict(arguments))

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of the images, per channel."""
        return self.mean, self.std

    @property
    def text(self) -> str:
        """Return it as JSON, the same for the same network."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Description:
        """Read what `text` gave.

        Raises:
            ValueError, KeyError, TypeError: It is something else.
        """
        found = json.loads(text)
        pruned = found.pop("pruned")
        for name in ("input_shape", "classes", "mean", "std"):
            found[name] = tuple(found[name])
        if pruned is not None:
            order = {name: tuple(channels) for name, channels in pruned.pop("order").items()}
            found["pruned"] = Pruned(order=order, **pruned)
        return cls(**found)

    def pruned_by(self, plan: SurgeryPlan, space: PruningSpace, text: str, criterion: str) -> Description:
        """Describe a candidate of this network."""
        order = {name: tuple(channels) for name, channels in plan.order.items()}
        return replace(self, pruned=Pruned(text, space.to_record(), order, criterion))

    def base(self, folder: Path) -> nn.Module:
        """Build the unpruned network, untrained.

        Raises:
            ModelError: It cannot be built.
        """
        channels, height, width = self.input_shape
        return build_model(
            self.model,
            num_classes=len(self.classes),
            in_channels=channels,
            image_size=height if height == width else None,
            arguments=self.arguments,
            folder=folder,
        )

    def build(self, folder: Path) -> nn.Module:
        """Build the network, pruned where it was; its weights are still to be loaded.

        Raises:
            ModelError: It cannot be built, or is not what was pruned.
        """
        module = self.base(folder)
        if self.pruned is None:
            return module
        space = PruningSpace.from_record(self.pruned.space)
        return SurgeryPlan(module, space.groups, self.pruned.order, space.blocks).apply(space.parse(self.pruned.text))


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights, in evaluation mode."""

    module: nn.Module
    description: Description


def read_description(path: Path) -> Description | None:
    """Return the description beside weights; None where there are weights alone.

    Raises:
        ModelError: The file cannot be read, or its description is damaged.
    """
    return _description(read_checkpoint(path), path)


def open_network(
    model: str, weights: Path, data: ImageData, *, arguments: Mapping[str, Any] | None = None, folder: Path
) -> TrainedNetwork:
    """Build a network and load its weights.

    Args:
        model: its name; a file that says what its weights are of must agree.
        weights: the file.
        data: whose classes and shape the network must have.
        arguments: of the factory; the file's own where it has some and None are given.
        folder: where a user's package is looked for.

    Raises:
        ModelError: Another model's weights, or a network that cannot be built.
        DataError: The data have other classes.
    """
    found = read_checkpoint(weights)
    described = _description(found, weights)
    if described is not None and described.model != model:
        raise ModelError(f"{weights}: holds weights of {described.model}, not of {model}")
    if described is not None and arguments and dict(arguments) != dict(described.arguments):
        raise ModelError(f"{weights}: was made with the arguments {dict(described.arguments)}: leave --argument out")
    description = described or Description.of(model, data, arguments or {})
    require_outputs(data.classes, len(description.classes))
    if description.input_shape != data.input_shape:
        raise ModelError(
            f"{weights}: takes images of {description.input_shape} and the data have {data.input_shape}: resize them"
        )
    module = description.build(folder)
    load_state(module, found["state_dict"] if isinstance(found.get("state_dict"), dict) else found, weights)
    return TrainedNetwork(module.eval(), description)


def save_network(path: Path, network: TrainedNetwork) -> None:
    """Write weights and description, in the place of nothing but the same network.

    Raises:
        CheckpointError: The file is there and another network's, or cannot be written.
    """
    if path.exists() and read_checkpoint(path).get(ABOUT, {}).get(NETWORK) != network.description.text:
        raise CheckpointError(f"{path}: is there already and holds something else: write to another file")
    buffer = io.BytesIO()
    torch.save({"state_dict": network.module.state_dict(), ABOUT: {NETWORK: network.description.text}}, buffer)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror}): make room and run the same command again"
        ) from error


def _description(found: Mapping[str, Any], path: Path) -> Description | None:
    about = found.get(ABOUT)
    if not isinstance(about, dict) or NETWORK not in about:
        return None
    try:
        return Description.parse(about[NETWORK])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: its description of the network is damaged ({error})") from error
