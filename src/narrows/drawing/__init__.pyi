from .embeddings_and_error_bars import Curve as Curve
