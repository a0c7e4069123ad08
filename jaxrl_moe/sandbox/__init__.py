"""Programs that are shut in: what a model or a stranger wrote finds no files, network or secrets of ours."""
