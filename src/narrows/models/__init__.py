"""Autoencoders that wire their stages otherwise than in one chain."""
