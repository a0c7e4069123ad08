"""Root-mean-square normalisation with a weight, then a linear layer without bias."""
import torch
from torch import nn

TOKENS = 8192
WIDTH_IN = 2048
WIDTH_OUT = 2048

SMALL = {"TOKENS": 20, "WIDTH_IN": 50, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 65, "WIDTH_IN": 33, "WIDTH_OUT": 9},
            {"TOKENS": 4, "WIDTH_IN": 100, "WIDTH_OUT": 66})


class Model(nn.Module):
    def __init__(self, width_in, width_out, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width_in))
        self.linear = nn.Linear(width_in, width_out, bias=False)
        self.eps = eps

    def forward(self, x):
        scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps)
        return self.linear(x * scale * self.weight)


def get_inputs():
    return [torch.randn(TOKENS, WIDTH_IN) * (0.1 + torch.rand(TOKENS, 1))]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT, 1e-6]
