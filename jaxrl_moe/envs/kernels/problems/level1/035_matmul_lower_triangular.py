"""Product of two lower triangular matrices, which is lower triangular too: zero above the diagonal."""
import torch
from torch import nn

SIZE = 4096

SMALL = {"SIZE": 100}
VARIANTS = ({"SIZE": 1}, {"SIZE": 65}, {"SIZE": 31})


class Model(nn.Module):
    def forward(self, a, b):
        return torch.tril(torch.matmul(a, b))


def get_inputs():
    a, b = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    return [torch.tril(a) * SIZE ** -0.5, torch.tril(b)]


def get_init_inputs():
    return []
