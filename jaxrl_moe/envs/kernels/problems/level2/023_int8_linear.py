"""Linear layer whose weights are int8 codes with a float32 scale for each output feature, and a bias."""
import torch
from torch import nn

TOKENS = 4096
WIDTH_IN = 2048
WIDTH_OUT = 4096

SMALL = {"TOKENS": 20, "WIDTH_IN": 50, "WIDTH_OUT": 70}
VARIANTS = ({"TOKENS": 1, "WIDTH_IN": 1, "WIDTH_OUT": 1}, {"TOKENS": 65, "WIDTH_IN": 33, "WIDTH_OUT": 17},
            {"TOKENS": 3, "WIDTH_IN": 129, "WIDTH_OUT": 65})


class Model(nn.Module):
    def __init__(self, width_in, width_out):
        super().__init__()
        self.register_buffer("codes", torch.randint(-127, 128, (width_out, width_in), dtype=torch.int8))
        self.register_buffer("scales", (0.2 + torch.rand(width_out)) / 64 * width_in ** -0.5)
        self.bias = nn.Parameter(torch.randn(width_out))

    def forward(self, x):
        return x @ (self.codes.float() * self.scales[:, None]).T + self.bias


def get_inputs():
    return [torch.randn(TOKENS, WIDTH_IN)]


def get_init_inputs():
    return [WIDTH_IN, WIDTH_OUT]
