"""GPU kernels in Triton, written turn by turn against references in PyTorch. Nothing here imports either."""
