"""Loss of a policy gradient with clipped ratios: the mean over all tokens that count of
max(-r A, -clip(r, 1 - low, 1 + high) A), where r = exp(new - old) and A is the row's advantage."""
import torch
from torch import nn

ROWS = 512
LENGTH = 8192

SMALL = {"ROWS": 5, "LENGTH": 700}
VARIANTS = ({"ROWS": 1, "LENGTH": 1}, {"ROWS": 3, "LENGTH": 1025}, {"ROWS": 17, "LENGTH": 20})


class Model(nn.Module):
    def __init__(self, low, high):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, new, old, advantages, counts):
        ratio = torch.exp(new - old)
        clipped = ratio.clamp(1 - self.low, 1 + self.high)
        losses = torch.maximum(-ratio * advantages[:, None], -clipped * advantages[:, None])
        return (losses * counts).sum() / counts.sum()


def get_inputs():
    new = -3 * torch.rand(ROWS, LENGTH)
    counts = torch.rand(ROWS, LENGTH) < 0.7
    counts[:, 0] = True
    return [new, new + 0.3 * torch.randn(ROWS, LENGTH), torch.randn(ROWS) + torch.randn(1), counts]


def get_init_inputs():
    return [0.2, 0.28]
