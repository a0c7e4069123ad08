"""Linear layer, sigmoid, and the sum over the features of each token."""
import torch
from torch import nn

TOKENS = 16384
WIDTH_IN = 512
WIDTH_OUT = 2048

SMALL = {"TOKENS": 20, "WIDTH_IN": 40, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 33, "WIDTH_IN": 31, "WIDTH_OUT": 65},
            {"TOKENS": 3, "WIDTH_IN": 66, "WIDTH_OUT": 10})


class Model(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, x):
        return torch.sigmoid(self.linear(x)).sum(dim=-1)


def get_inputs():
    return [2 * torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT]
