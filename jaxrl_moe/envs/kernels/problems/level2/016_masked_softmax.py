"""Scores [batch, heads, queries, keys] times a scale, hidden where a mask that all heads share says so, and
their softmax over the keys. Every query sees at least one key."""
import torch
from torch import nn

BATCH = 8
HEADS = 16
QUERIES = 512
KEYS = 1024

SMALL = {"BATCH": 2, "HEADS": 2, "QUERIES": 5, "KEYS": 200}
VARIANTS = ({"BATCH": 1, "HEADS": 1, "QUERIES": 1, "KEYS": 1},
            {"BATCH": 2, "HEADS": 3, "QUERIES": 4, "KEYS": 129},
            {"BATCH": 1, "HEADS": 2, "QUERIES": 7, "KEYS": 33})


class Model(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, scores, visible):
        return torch.softmax((scores * self.scale).masked_fill(~visible[:, None], float("-inf")), dim=-1)


def get_inputs():
    visible = torch.rand(BATCH, QUERIES, KEYS) < 0.4
    visible[..., 0] = True
    return [8 * torch.randn(BATCH, HEADS, QUERIES, KEYS), visible]


def get_init_inputs():
    return [0.5]
