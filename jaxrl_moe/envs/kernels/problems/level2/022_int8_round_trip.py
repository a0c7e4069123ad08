"""Each row is quantised to the integers from -127 to 127, with its largest magnitude as 127, and turned back:
what a cache or a transfer in int8 would do to it. No element lies halfway between two integers, or nearly."""
import torch
from torch import nn

ROWS = 8192
COLUMNS = 4096

SMALL = {"ROWS": 5, "COLUMNS": 1200}
VARIANTS = ({"ROWS": 1, "COLUMNS": 1}, {"ROWS": 4, "COLUMNS": 1025}, {"ROWS": 12, "COLUMNS": 37})


class Model(nn.Module):
    def forward(self, x):
        scale = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-8) / 127
        codes = torch.round(x / scale).to(torch.int8)
        return codes.float() * scale


def get_inputs():
    codes = torch.randint(-126, 127, (ROWS, COLUMNS)) + 0.8 * torch.rand(ROWS, COLUMNS) - 0.4
    codes[:, -1] = 127
    return [codes * (0.01 + 0.1 * torch.rand(ROWS, 1))]


def get_init_inputs():
    return []
