"""The transpose of each matrix of a stack, laid out anew in memory."""
import torch
from torch import nn

BATCH = 8
ROWS = 2048
COLUMNS = 2048

SMALL = {"BATCH": 2, "ROWS": 40, "COLUMNS": 70}
VARIANTS = ({"BATCH": 1, "ROWS": 1, "COLUMNS": 1}, {"BATCH": 1, "ROWS": 65, "COLUMNS": 33},
            {"BATCH": 3, "ROWS": 1, "COLUMNS": 50})


class Model(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2).contiguous()


def get_inputs():
    return [torch.randn(BATCH, ROWS, COLUMNS)]


def get_init_inputs():
    return []
