"""Huber loss: half the squared difference where it is small, linear beyond a threshold, as a mean."""
import torch
import torch.nn.functional as F
from torch import nn

ROWS = 4096
COLUMNS = 8192

SMALL = {"ROWS": 6, "COLUMNS": 900}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 5, "COLUMNS": 1639}, {"ROWS": 2, "COLUMNS": 77})


class Model(nn.Module):
    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, predictions, targets):
        return F.huber_loss(predictions, targets, delta=self.threshold)


def get_inputs():
    spread = 0.5 + 2 * torch.rand(1)
    return [torch.randn(ROWS, COLUMNS) * spread, torch.randn(ROWS, COLUMNS) * spread]


def get_init_inputs():
    return [1.5]
