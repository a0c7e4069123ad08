"""What judges are asked, and what they say: people and models alike."""
