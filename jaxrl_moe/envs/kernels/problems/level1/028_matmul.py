"""Product of two square matrices."""
import torch
from torch import nn

SIZE = 4096

SMALL = {"SIZE": 70}
VARIANTS = ({"SIZE": 1}, {"SIZE": 65}, {"SIZE": 33})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.matmul(a, b)


def get_inputs():
    return [torch.randn(SIZE, SIZE) * SIZE ** -0.5, torch.randn(SIZE, SIZE)]


def get_init_inputs():
    return []
