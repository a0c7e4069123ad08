"""Each row divided by its Euclidean length, which counts as at least 1e-6."""
import torch
import torch.nn.functional as F
from torch import nn

ROWS = 32768
COLUMNS = 1024

SMALL = {"ROWS": 12, "COLUMNS": 300}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 7, "COLUMNS": 513}, {"ROWS": 10, "COLUMNS": 64})


class Model(nn.Module):
    def forward(self, x):
        return F.normalize(x, dim=-1, eps=1e-6)


def get_inputs():
    return [torch.randn(ROWS, COLUMNS) * (0.1 + torch.rand(ROWS, 1))]


def get_init_inputs():
    return []
