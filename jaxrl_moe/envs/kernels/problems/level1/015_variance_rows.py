"""Unbiased variance of each row, whose mean may be far from zero."""
import torch
from torch import nn

ROWS = 8192
COLUMNS = 4096

SMALL = {"ROWS": 5, "COLUMNS": 1100}
VARIANTS = ({"ROWS": 1, "COLUMNS": 2}, {"ROWS": 4, "COLUMNS": 1025}, {"ROWS": 9, "COLUMNS": 63})


class Model(nn.Module):
    def forward(self, x):
        return torch.var(x, dim=-1)


def get_inputs():
    spread = 0.5 + torch.rand(ROWS, 1)
    return [torch.randn(ROWS, COLUMNS) * spread + 10 * torch.randn(ROWS, 1)]


def get_init_inputs():
    return []
