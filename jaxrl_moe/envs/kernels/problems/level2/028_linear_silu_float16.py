"""Linear layer in float16 with bias and the sigmoid linear unit, in float32 until the result is rounded."""
import torch
import torch.nn.functional as F
from torch import nn

TOKENS = 8192
WIDTH_IN = 2048
WIDTH_OUT = 4096

SMALL = {"TOKENS": 20, "WIDTH_IN": 50, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 65, "WIDTH_IN": 33, "WIDTH_OUT": 17},
            {"TOKENS": 3, "WIDTH_IN": 129, "WIDTH_OUT": 66})


class Model(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.linear = nn.Linear(width_in, width_out).half()

    def forward(self, x):
        hidden = x.float() @ self.linear.weight.float().T + self.linear.bias.float()
        return F.silu(hidden).half()


def get_inputs():
    return [(4 * torch.randn(TOKENS, WIDTH_IN)).half()]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT]
