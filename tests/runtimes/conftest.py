"""What a worker leaves behind in its process, a test must not."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Ends the inference mode that the agent's torch runtime enters for good, and gives torch its threads back."""
    threads = torch.get_num_threads()
    with torch.inference_mode(False):
        yield
        gc.collect()  # each runtime's own guard puts back what it found, in the order in which they die
    torch.set_num_threads(threads)
