"""Mean squared difference of two arrays."""
import torch
import torch.nn.functional as F
from torch import nn

ROWS = 4096
COLUMNS = 8192

SMALL = {"ROWS": 6, "COLUMNS": 900}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 5, "COLUMNS": 1639}, {"ROWS": 3, "COLUMNS": 32})


class Model(nn.Module):
    def forward(self, predictions, targets):
        return F.mse_loss(predictions, targets)


def get_inputs():
    spread = 0.5 + torch.rand(1)
    return [torch.randn(ROWS, COLUMNS) * spread, torch.randn(ROWS, COLUMNS) * spread]


def get_init_inputs():
    return []
