"""Softmax attention in which no query sees a key that comes after it."""
import torch
from torch import nn

BATCH = 4
HEADS = 16
LENGTH = 1024
WIDTH = 64

SMALL = {"BATCH": 1, "HEADS": 2, "LENGTH": 50, "WIDTH": 16}
VARIANTS = ({"BATCH": 1, "HEADS": 1, "LENGTH": 1, "WIDTH": 1},
            {"BATCH": 2, "HEADS": 1, "LENGTH": 65, "WIDTH": 24},
            {"BATCH": 1, "HEADS": 3, "LENGTH": 32, "WIDTH": 33})


class Model(nn.Module):
    def forward(self, q, k, v):
        length = q.shape[2]
        hidden = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(hidden, float("-inf"))
        return torch.softmax(scores, dim=-1) @ v


def get_inputs():
    shape = (BATCH, HEADS, LENGTH, WIDTH)
    return [2 * torch.randn(shape), torch.randn(shape), torch.randn(shape)]


def get_init_inputs():
    return []
