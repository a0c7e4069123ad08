"""Linear layer, a residual added to it, and layer normalisation of the sum."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH_IN = 2048
WIDTH_OUT = 1024

SMALL = {"TOKENS": 20, "WIDTH_IN": 40, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 2}, {"TOKENS": 65, "WIDTH_IN": 17, "WIDTH_OUT": 33},
            {"TOKENS": 5, "WIDTH_IN": 90, "WIDTH_OUT": 129})


class Model(nn.Module):
    def __init__(self, width_in, width_out, eps):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.weight = nn.Parameter(torch.randn(width_out))
        self.bias = nn.Parameter(torch.randn(width_out))
        self.eps = eps

    def forward(self, x, residual):
        hidden = self.linear(x) + residual
        return F.layer_norm(hidden, (hidden.shape[-1],), self.weight, self.bias, self.eps)


def get_inputs():
    return [torch.randn(TOKENS, WIDTH_IN), torch.randn(TOKENS, WIDTH_OUT)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT, 1e-5]
