"""Product of a matrix and a vector."""
import torch
from torch import nn

ROWS = 16384
COLUMNS = 4096

SMALL = {"ROWS": 40, "COLUMNS": 300}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 17, "COLUMNS": 129}, {"ROWS": 5, "COLUMNS": 700})


class Model(nn.Module):
    def forward(self, a, x):
        return torch.mv(a, x)


def get_inputs():
    return [torch.randn(ROWS, COLUMNS) * COLUMNS ** -0.5, torch.randn(COLUMNS)]


def get_init_inputs():
    return []
