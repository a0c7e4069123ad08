"""A page on loopback that shows what a run drew and learnt, while it goes on: see scripts/view.py."""
