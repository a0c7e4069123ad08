"""Causal softmax attention in which a query sees only itself and the keys shortly before it."""
import torch
from torch import nn

BATCH = 4
HEADS = 16
LENGTH = 1024
WIDTH = 64
WINDOW = 256

SMALL = {"BATCH": 1, "HEADS": 2, "LENGTH": 70, "WIDTH": 16, "WINDOW": 20}
VARIANTS = ({"BATCH": 1, "HEADS": 1, "LENGTH": 1, "WIDTH": 1, "WINDOW": 1},
            {"BATCH": 2, "HEADS": 1, "LENGTH": 97, "WIDTH": 20, "WINDOW": 33},
            {"BATCH": 1, "HEADS": 3, "LENGTH": 40, "WIDTH": 17, "WINDOW": 1})


class Model(nn.Module):
    def __init__(self, window):
        super().__init__()
        self.window = window

    def forward(self, q, k, v):
        steps = torch.arange(q.shape[2], device=q.device)
        distance = steps[:, None] - steps[None, :]
        hidden = (distance < 0) | (distance >= self.window)
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(hidden, float("-inf"))
        return torch.softmax(scores, dim=-1) @ v


def get_inputs():
    shape = (BATCH, HEADS, LENGTH, WIDTH)
    return [2 * torch.randn(shape), torch.randn(shape), torch.randn(shape)]


def get_init_inputs():
    return [WINDOW]
