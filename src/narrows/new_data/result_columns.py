"""The columns of what is written of new data."""

NAME, SCORE, FLAG, PROBLEM, REBUILT = "name", "score", "anomaly", "problem", "reconstruction_"
FILM, FRAME = "film", "frame"
"""Before the score and the flag of a frame of a film."""
