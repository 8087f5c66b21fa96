"""The columns of what is written of new data."""

NAME, SCORE, FLAG, PROBLEM, REBUILT = "name", "score", "anomaly", "problem", "reconstruction_"
