"""Instance normalisation: each plane of [batch, channels, height, width] gets mean zero and variance one."""
import torch
import torch.nn.functional as F
from torch import nn

BATCH = 16
CHANNELS = 128
HEIGHT = 128
WIDTH = 128

SMALL = {"BATCH": 2, "CHANNELS": 3, "HEIGHT": 30, "WIDTH": 37}
VARIANTS = ({"BATCH": 1, "CHANNELS": 1, "HEIGHT": 1, "WIDTH": 2},
            {"BATCH": 1, "CHANNELS": 5, "HEIGHT": 25, "WIDTH": 41},
            {"BATCH": 3, "CHANNELS": 2, "HEIGHT": 7, "WIDTH": 5})


class Model(nn.Module):
    def __init__(self, eps):
        super().__init__()
        self.eps = eps

    def forward(self, x):
        return F.instance_norm(x, eps=self.eps)


def get_inputs():
    spread = 0.5 + torch.rand(BATCH, CHANNELS, 1, 1)
    return [torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH) * spread + 3 * torch.randn(BATCH, CHANNELS, 1, 1)]


def get_init_inputs():
    return [1e-5]
