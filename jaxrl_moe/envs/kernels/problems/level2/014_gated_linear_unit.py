"""Gated linear unit: the first half of what a linear layer gives, times the sigmoid of the second."""
import torch
from torch import nn

TOKENS = 8192
WIDTH_IN = 1024
WIDTH_OUT = 2048

SMALL = {"TOKENS": 30, "WIDTH_IN": 50, "WIDTH_OUT": 40}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 65, "WIDTH_IN": 33, "WIDTH_OUT": 9},
            {"TOKENS": 6, "WIDTH_IN": 70, "WIDTH_OUT": 65})


class Model(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, 2 * width_out)

    def forward(self, x):
        values, gates = self.linear(x).chunk(2, dim=-1)
        return values * torch.sigmoid(gates)


def get_inputs():
    return [2 * torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT]
