"""What runs in the Python of another package, and so imports this library nowhere: worker_guard starts a file
there, which calls worker_loop.serve."""
