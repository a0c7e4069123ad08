"""Gated multilayer perceptron: down(silu(gate(x)) * up(x)), three linear layers without biases."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 4096
WIDTH = 1024
HIDDEN = 3072

SMALL = {"TOKENS": 20, "WIDTH": 40, "HIDDEN": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH": 1, "HIDDEN": 1}, {"TOKENS": 65, "WIDTH": 17, "HIDDEN": 33},
            {"TOKENS": 5, "WIDTH": 66, "HIDDEN": 48})


class Model(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


def get_inputs():
    return [4 * torch.randn(TOKENS, WIDTH)]


def get_init_inputs():
    return [WIDTH, HIDDEN]
