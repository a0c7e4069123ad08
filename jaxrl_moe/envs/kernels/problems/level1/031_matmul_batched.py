"""Products of two stacks of matrices, matrix by matrix."""
import torch
from torch import nn

BATCH = 64
ROWS = 512
INNER = 512
COLUMNS = 512

SMALL = {"BATCH": 2, "ROWS": 40, "INNER": 50, "COLUMNS": 70}
VARIANTS = ({"BATCH": 1, "ROWS": 1, "INNER": 1, "COLUMNS": 1},
            {"BATCH": 3, "ROWS": 17, "INNER": 33, "COLUMNS": 9},
            {"BATCH": 2, "ROWS": 65, "INNER": 16, "COLUMNS": 31})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.bmm(a, b)


def get_inputs():
    return [torch.randn(BATCH, ROWS, INNER) * INNER ** -0.5, torch.randn(BATCH, INNER, COLUMNS)]


def get_init_inputs():
    return []
