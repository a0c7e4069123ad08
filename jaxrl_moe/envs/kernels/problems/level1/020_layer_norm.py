"""Layer normalisation of each row with a weight and a bias."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH = 4096

SMALL = {"TOKENS": 6, "WIDTH": 400}
VARIANTS = ({"TOKENS": 1, "WIDTH": 2}, {"TOKENS": 5, "WIDTH": 513}, {"TOKENS": 3, "WIDTH": 64})


class Model(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.bias = nn.Parameter(torch.randn(width))
        self.eps = eps

    def forward(self, x):
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


def get_inputs():
    return [torch.randn(TOKENS, WIDTH) * 2 + torch.randn(TOKENS, 1)]


def get_init_inputs():
    return [WIDTH, 1e-5]
