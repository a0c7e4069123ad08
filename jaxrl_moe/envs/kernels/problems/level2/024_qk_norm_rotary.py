"""Each head of each token is normalised by its root mean square, given a weight, and turned by the angles of
its position, as some models do with queries and keys."""
import torch
from torch import nn

BATCH = 8
LENGTH = 2048
HEADS = 16
WIDTH = 128
BASE = 1000000

SMALL = {"BATCH": 2, "LENGTH": 6, "HEADS": 3, "WIDTH": 16}
VARIANTS = ({"BATCH": 1, "LENGTH": 1, "HEADS": 1, "WIDTH": 2},
            {"BATCH": 2, "LENGTH": 3, "HEADS": 5, "WIDTH": 66},
            {"BATCH": 1, "LENGTH": 17, "HEADS": 2, "WIDTH": 24})


def angles(length, width, base):
    frequencies = float(base) ** (-torch.arange(width // 2, dtype=torch.float32) / (width // 2))
    return torch.arange(length, dtype=torch.float32)[:, None] * frequencies


class Model(nn.Module):
    def __init__(self, length, width, base, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.register_buffer("cosines", angles(length, width, base).cos())
        self.register_buffer("sines", angles(length, width, base).sin())
        self.eps = eps

    def forward(self, x):
        x = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight
        cosines, sines = self.cosines[:, None, :], self.sines[:, None, :]
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


def get_inputs():
    return [torch.randn(BATCH, LENGTH, HEADS, WIDTH)]


def get_init_inputs():
    return [LENGTH, WIDTH, BASE, 1e-6]
