"""Smooth rectifier: log(1 + exp(beta x)) / beta, for large and small x alike."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH = 4096

SMALL = {"TOKENS": 4, "WIDTH": 600}
VARIANTS = ({"TOKENS": 1, "WIDTH": 1}, {"TOKENS": 13, "WIDTH": 83}, {"TOKENS": 8, "WIDTH": 256})


class Model(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def forward(self, x):
        return F.softplus(x, beta=self.beta)


def get_inputs():
    return [torch.randn(TOKENS, WIDTH) * 20]


def get_init_inputs():
    return [1.5]
