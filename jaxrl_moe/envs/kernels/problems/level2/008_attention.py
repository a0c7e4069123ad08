"""Softmax attention of every query to every key of its head."""
import torch
from torch import nn

BATCH = 4
HEADS = 16
QUERIES = 1024
KEYS = 1024
WIDTH = 64

SMALL = {"BATCH": 1, "HEADS": 2, "QUERIES": 20, "KEYS": 50, "WIDTH": 16}
VARIANTS = ({"BATCH": 1, "HEADS": 1, "QUERIES": 1, "KEYS": 1, "WIDTH": 1},
            {"BATCH": 2, "HEADS": 1, "QUERIES": 65, "KEYS": 33, "WIDTH": 24},
            {"BATCH": 1, "HEADS": 3, "QUERIES": 5, "KEYS": 64, "WIDTH": 17})


class Model(nn.Module):
    def forward(self, q, k, v):
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return torch.softmax(scores, dim=-1) @ v


def get_inputs():
    return [2 * torch.randn(BATCH, HEADS, QUERIES, WIDTH), torch.randn(BATCH, HEADS, KEYS, WIDTH),
            torch.randn(BATCH, HEADS, KEYS, WIDTH)]


def get_init_inputs():
    return []
