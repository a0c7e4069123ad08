"""What a run keeps and shows: its folder, checkpoints, logs, trajectories, evaluations and report."""
