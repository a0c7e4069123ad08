"""What runs in the environment of the package alfworld: it imports this library nowhere."""
