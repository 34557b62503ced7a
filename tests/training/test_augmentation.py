"""Crops and flips move pixels and invent none."""

import torch

from hwloop.training import random_crop, random_flip


def test_a_crop_is_a_shift_with_zeros_at_the_border() -> None:
    images = torch.rand(64, 2, 6, 5) + 1
    found = random_crop(images, 2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    shifts = set()
    for before, after in zip(padded, found, strict=True):
        matches = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(before[:, top : top + 6, left : left + 5], after)
        ]
        assert len(matches) == 1
        shifts.add(matches[0])
    assert len(shifts) > 10


def test_about_half_of_the_images_are_mirrored() -> None:
    images = torch.rand(400, 1, 3, 4)
    found = random_flip(images, torch.Generator().manual_seed(0))
    mirrored = sum(bool(torch.equal(a.flip(2), b)) for a, b in zip(images, found, strict=True))
    same = sum(bool(torch.equal(a, b)) for a, b in zip(images, found, strict=True))
    assert mirrored + same == 400
    assert 150 < mirrored < 250
