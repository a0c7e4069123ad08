"""Who gets the credit: from rewards of rollouts and turns to advantages of tokens, and what the KL to the
reference charges."""
