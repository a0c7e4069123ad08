"""Linear layer with a low-rank addition: x W' + bias + scale (x A') B'."""
import torch
from torch import nn

TOKENS = 8192
WIDTH_IN = 2048
WIDTH_OUT = 2048
RANK = 16

SMALL = {"TOKENS": 20, "WIDTH_IN": 50, "WIDTH_OUT": 70, "RANK": 4}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1, "RANK": 1},
            {"TOKENS": 65, "WIDTH_IN": 33, "WIDTH_OUT": 17, "RANK": 17},
            {"TOKENS": 4, "WIDTH_IN": 64, "WIDTH_OUT": 66, "RANK": 16})


class Model(nn.Module):
    def __init__(self, width_in, width_out, rank, scale):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.lora_a = nn.Parameter(torch.randn(rank, width_in) * width_in ** -0.5)
        self.lora_b = nn.Parameter(torch.randn(width_out, rank) * rank ** -0.5)
        self.scale = scale

    def forward(self, x):
        return self.linear(x) + x @ self.lora_a.T @ self.lora_b.T * self.scale


def get_inputs():
    return [torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT, RANK, 0.5]
