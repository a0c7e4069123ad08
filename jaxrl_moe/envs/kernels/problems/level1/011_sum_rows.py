"""Sum of each row."""
import torch
from torch import nn

ROWS = 4096
COLUMNS = 16384

SMALL = {"ROWS": 7, "COLUMNS": 1500}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 5, "COLUMNS": 1023}, {"ROWS": 3, "COLUMNS": 2050})


class Model(nn.Module):
    def forward(self, x):
        return torch.sum(x, dim=-1)


def get_inputs():
    return [torch.randn(ROWS, COLUMNS) + torch.randn(ROWS, 1)]


def get_init_inputs():
    return []
