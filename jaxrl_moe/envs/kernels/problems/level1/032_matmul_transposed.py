"""Product of two matrices that both lie transposed in memory: a is [inner, rows], b is [columns, inner]."""
import torch
from torch import nn

ROWS = 2048
INNER = 4096
COLUMNS = 1024

SMALL = {"ROWS": 50, "INNER": 70, "COLUMNS": 80}
VARIANTS = ({"ROWS": 1, "INNER": 1, "COLUMNS": 1}, {"ROWS": 65, "INNER": 31, "COLUMNS": 17},
            {"ROWS": 9, "INNER": 100, "COLUMNS": 66})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a.T, b.T)


def get_inputs():
    return [torch.randn(INNER, ROWS) * INNER ** -0.5, torch.randn(COLUMNS, INNER)]


def get_init_inputs():
    return []
