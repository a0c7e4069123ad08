"""Rotary position embedding: in each head, elements i and i + half of a token at position t are turned by the
angle t * base ** (-i / half)."""
import torch
from torch import nn

BATCH = 8
LENGTH = 2048
HEADS = 16
WIDTH = 128
BASE = 10000

SMALL = {"BATCH": 2, "LENGTH": 7, "HEADS": 3, "WIDTH": 16}
VARIANTS = ({"BATCH": 1, "LENGTH": 1, "HEADS": 1, "WIDTH": 2},
            {"BATCH": 2, "LENGTH": 5, "HEADS": 5, "WIDTH": 66},
            {"BATCH": 1, "LENGTH": 33, "HEADS": 1, "WIDTH": 8})


def angles(length, width, base):
    frequencies = float(base) ** (-torch.arange(width // 2, dtype=torch.float32) / (width // 2))
    return torch.arange(length, dtype=torch.float32)[:, None] * frequencies


class Model(nn.Module):
    def __init__(self, length, width, base):
        super().__init__()
        self.register_buffer("cosines", angles(length, width, base).cos())
        self.register_buffer("sines", angles(length, width, base).sin())

    def forward(self, x):
        cosines, sines = self.cosines[:, None, :], self.sines[:, None, :]
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)


def get_inputs():
    return [torch.randn(BATCH, LENGTH, HEADS, WIDTH)]


def get_init_inputs():
    return [LENGTH, WIDTH, BASE]
