"""Do two sets of weights compute the same? Logits, log-probs and tensors side by side."""
