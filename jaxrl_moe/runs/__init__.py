"""What a run keeps and shows: its folder, checkpoints, logs, trajectories, console, evaluations and report."""
