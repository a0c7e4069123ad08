"""Outer product of two vectors."""
import torch
from torch import nn

ROWS = 8192
COLUMNS = 4096

SMALL = {"ROWS": 50, "COLUMNS": 90}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 33, "COLUMNS": 65}, {"ROWS": 4, "COLUMNS": 200})


class Model(nn.Module):
    def forward(self, x, y):
        return torch.outer(x, y)


def get_inputs():
    return [torch.randn(ROWS), torch.randn(COLUMNS)]


def get_init_inputs():
    return []
