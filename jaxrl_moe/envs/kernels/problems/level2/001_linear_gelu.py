"""Linear layer with bias, then the exact Gaussian error linear unit."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH_IN = 1024
WIDTH_OUT = 4096

SMALL = {"TOKENS": 20, "WIDTH_IN": 50, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 65, "WIDTH_IN": 33, "WIDTH_OUT": 17},
            {"TOKENS": 7, "WIDTH_IN": 128, "WIDTH_OUT": 66})


class Model(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)

    def forward(self, x):
        return F.gelu(self.linear(x))


def get_inputs():
    return [2 * torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT]
