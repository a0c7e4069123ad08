"""Logarithm of the softmax of each row."""
import torch
from torch import nn

ROWS = 1024
COLUMNS = 32768

SMALL = {"ROWS": 4, "COLUMNS": 2300}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 3, "COLUMNS": 2049}, {"ROWS": 16, "COLUMNS": 50})


class Model(nn.Module):
    def forward(self, x):
        return torch.log_softmax(x, dim=-1)


def get_inputs():
    return [torch.randn(ROWS, COLUMNS) * 3 + 100]


def get_init_inputs():
    return []
