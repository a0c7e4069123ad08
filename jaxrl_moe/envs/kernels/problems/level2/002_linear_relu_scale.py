"""Linear layer, rectifier, and a learned scale for each feature."""
import torch
from torch import nn

TOKENS = 16384
WIDTH_IN = 1024
WIDTH_OUT = 1024

SMALL = {"TOKENS": 30, "WIDTH_IN": 60, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 67, "WIDTH_IN": 31, "WIDTH_OUT": 9},
            {"TOKENS": 3, "WIDTH_IN": 100, "WIDTH_OUT": 65})


class Model(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.scale = nn.Parameter(torch.randn(width_out))

    def forward(self, x):
        return torch.relu(self.linear(x)) * self.scale


def get_inputs():
    return [2 * torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT]
