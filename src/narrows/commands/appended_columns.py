"""The columns that `narrows score` appends to a table."""

SCORE, FLAG, PROBLEM, REBUILT = "score", "anomaly", "problem", "reconstruction_"
