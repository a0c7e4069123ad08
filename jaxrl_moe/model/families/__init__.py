"""Families of models, one file each: all that depends on which kind of model it is.

A file of this package that ends in `register(...)` is a family, and nothing else names it: registry finds it,
family.Family says what it tells, decoder holds what decoders share, rows what a row of the weight map is.
"""
