"""Leaky rectifier: negative elements are multiplied by a slope given at construction."""
import torch
import torch.nn.functional as F
from torch import nn

ROWS = 4096
COLUMNS = 8192

SMALL = {"ROWS": 4, "COLUMNS": 900}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 9, "COLUMNS": 123}, {"ROWS": 2, "COLUMNS": 1024})


class Model(nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return F.leaky_relu(x, self.slope)


def get_inputs():
    return [torch.randn(ROWS, COLUMNS)]


def get_init_inputs():
    return [0.2]
