"""How far judges agree, people among themselves and with a model, and what follows from it."""
