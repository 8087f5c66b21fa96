"""Losses: named, weighted terms on the output of a model."""

from narrows.losses.objective import Losses, Objective, Term

__all__ = ["Losses", "Objective", "Term"]
