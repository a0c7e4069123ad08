"""Mean of each column, so over the outer dimension."""
import torch
from torch import nn

ROWS = 16384
COLUMNS = 4096

SMALL = {"ROWS": 150, "COLUMNS": 70}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 65, "COLUMNS": 33}, {"ROWS": 1, "COLUMNS": 100})


class Model(nn.Module):
    def forward(self, x):
        return torch.mean(x, dim=0)


def get_inputs():
    return [torch.randn(ROWS, COLUMNS) + torch.randn(1, COLUMNS)]


def get_init_inputs():
    return []
