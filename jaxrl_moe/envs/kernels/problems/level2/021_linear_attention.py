"""Causal linear attention with a decay for each head: out[t] is the sum over s <= t of
decay ** (t - s) (q[t] . k[s]) v[s]."""
import torch
from torch import nn

BATCH = 4
HEADS = 16
LENGTH = 1024
WIDTH = 64

SMALL = {"BATCH": 1, "HEADS": 2, "LENGTH": 50, "WIDTH": 16}
VARIANTS = ({"BATCH": 1, "HEADS": 1, "LENGTH": 1, "WIDTH": 1},
            {"BATCH": 2, "HEADS": 3, "LENGTH": 33, "WIDTH": 20},
            {"BATCH": 1, "HEADS": 2, "LENGTH": 96, "WIDTH": 9})


class Model(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.register_buffer("decay", 1 - 2.0 ** -(3 + torch.arange(heads) % 5))

    def forward(self, q, k, v):
        steps = torch.arange(q.shape[2], device=q.device)
        distance = steps[:, None] - steps[None, :]
        factors = torch.where(distance >= 0, self.decay[:, None, None] ** distance.clamp(min=0), 0.0)
        return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 * factors) @ v


def get_inputs():
    shape = (BATCH, HEADS, LENGTH, WIDTH)
    return [torch.randn(shape), torch.randn(shape), torch.randn(shape)]


def get_init_inputs():
    return [HEADS]
