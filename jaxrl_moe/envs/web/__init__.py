"""Pages that a policy wrote, shown in a browser that is shut in."""
