"""Programs that are shut in: what a stranger or a model wrote runs without files, network and secrets of ours."""
