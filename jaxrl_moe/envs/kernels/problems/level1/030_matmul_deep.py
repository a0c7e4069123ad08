"""Product of a wide flat matrix and a tall narrow one: few results, each a sum of many products."""
import torch
from torch import nn

ROWS = 128
INNER = 131072
COLUMNS = 128

SMALL = {"ROWS": 20, "INNER": 600, "COLUMNS": 25}
VARIANTS = ({"ROWS": 1, "INNER": 1, "COLUMNS": 1}, {"ROWS": 33, "INNER": 257, "COLUMNS": 7},
            {"ROWS": 16, "INNER": 31, "COLUMNS": 40})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(ROWS, INNER) * INNER ** -0.5, torch.randn(INNER, COLUMNS)]


def get_init_inputs():
    return []
