"""A small vision transformer, to be measured: hwloop does not prune it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from hwloop.errors import ModelError
from hwloop.models.blocks import IMAGENET, SMALL_IMAGE
from hwloop.models.registry import register_model


class Attention(nn.Module):
    """Self-attention of several heads, in the operations that runtimes execute: products and a softmax."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (features // heads) ** -0.5
        self.qkv = nn.Linear(features, 3 * features)
        self.proj = nn.Linear(features, features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, tokens, features) to the same shape."""
        batch, count, features = tokens.shape
        heads = self.qkv(tokens).reshape(batch, count, 3, self.heads, features // self.heads).permute(2, 0, 3, 1, 4)
        scores = (heads[0] * self.scale) @ heads[1].transpose(-2, -1)
        mixed = scores.softmax(-1) @ heads[2]
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, features))
        return projected


class Mlp(nn.Module):
    """Two linear layers around a GELU."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(features, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, tokens, features) to the same shape."""
        result: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return result


class Block(nn.Module):
    """Attention and multilayer perceptron, each normalised before and added to its input."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(features, eps=1e-6)
        self.attn = Attention(features, heads)
        self.norm2 = nn.LayerNorm(features, eps=1e-6)
        self.mlp = Mlp(features, 4 * features)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (n, tokens, features) to the same shape."""
        tokens = tokens + self.attn(self.norm1(tokens))
        mixed: Tensor = tokens + self.mlp(self.norm2(tokens))
        return mixed


class PatchEmbedding(nn.Module):
    """A convolution that turns patches into tokens."""

    def __init__(self, in_channels: int, features: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, features, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, h / patch * w / patch, features)."""
        tokens: Tensor = self.proj(images)
        return tokens.flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Dosovitskiy et al. 2021, section 3.1: a class token, learned positions, timm's names."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        image_size: int,
        patch: int,
        features: int,
        depth: int,
        heads: int,
    ) -> None:
        super().__init__()
        if image_size % patch or features % heads:
            raise ModelError(
                f"vit_tiny needs images that are a multiple of patch = {patch} pixels, these have {image_size}, and "
                f"features that are a multiple of heads: {features} and {heads}"
            )
        self.patch_embed = PatchEmbedding(in_channels, features, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, features))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image_size // patch) ** 2 + 1, features))
        self.blocks = nn.Sequential(*(Block(features, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(features, eps=1e-6)
        self.head = nn.Linear(features, num_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, image_size, image_size) to logits (n, num_classes)."""
        tokens = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits


@register_model(defaults=replace(IMAGENET, prunable=False))
def vit_tiny(
    num_classes: int = 1000,
    in_channels: int = 3,
    image_size: int = 224,
    patch: int | None = None,
    features: int = 192,
    depth: int = 12,
    heads: int = 3,
) -> VisionTransformer:
    """Build ViT-Tiny, the network of DeiT-Ti (Touvron et al. 2021, table 1; 5.72 M parameters at 1000 classes).

    Args:
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        image_size: height and width of the images; the positions are learned for this size.
        patch: pixels of a patch's side; 16, and 4 for images up to 64 pixels.
        features: of a token.
        depth: number of blocks.
        heads: of the attention.
    """
    side = patch or (4 if image_size <= SMALL_IMAGE else 16)
    return VisionTransformer(num_classes, in_channels, image_size, side, features, depth, heads)
