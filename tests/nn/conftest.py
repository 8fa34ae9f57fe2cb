"""Every test starts from the same random numbers, here and in PyTorch, whatever ran before it."""

import pytest
import torch

import treadle as td


@pytest.fixture(autouse=True)
def same_draws() -> None:
    torch.manual_seed(0)
    td.manual_seed(0)
