"""Root-mean-square normalisation of bfloat16 rows, computed in float32 and rounded at the end."""
import torch
from torch import nn

TOKENS = 16384
WIDTH = 4096

SMALL = {"TOKENS": 5, "WIDTH": 1200}
VARIANTS = ({"TOKENS": 1, "WIDTH": 1}, {"TOKENS": 4, "WIDTH": 1025}, {"TOKENS": 11, "WIDTH": 50})


class Model(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight).to(x.dtype)


def get_inputs():
    return [(torch.randn(TOKENS, WIDTH) * (0.1 + torch.rand(TOKENS, 1))).bfloat16()]


def get_init_inputs():
    return [WIDTH, 1e-6]
