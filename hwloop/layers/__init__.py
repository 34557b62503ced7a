"""What a network is to the rest of hwloop: the layers that a runtime executes, and how they connect."""

from hwloop.layers.blocks import Alternative, Block
from hwloop.layers.layer import Layer
from hwloop.layers.network import Network, Node
from hwloop.layers.ops import ACTIVATIONS, ITEM_BYTES, OPS, Op
from hwloop.layers.scalable import ScalableNetwork

__all__ = [
    "ACTIVATIONS",
    "ITEM_BYTES",
    "OPS",
    "Alternative",
    "Block",
    "Layer",
    "Network",
    "Node",
    "Op",
    "ScalableNetwork",
]
