"""Product of a tall narrow matrix and a small one."""
import torch
from torch import nn

ROWS = 131072
INNER = 128
COLUMNS = 32

SMALL = {"ROWS": 150, "INNER": 40, "COLUMNS": 20}
VARIANTS = ({"ROWS": 1, "INNER": 1, "COLUMNS": 1}, {"ROWS": 129, "INNER": 33, "COLUMNS": 5},
            {"ROWS": 64, "INNER": 65, "COLUMNS": 33})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(ROWS, INNER) * INNER ** -0.5, torch.randn(INNER, COLUMNS)]


def get_init_inputs():
    return []
