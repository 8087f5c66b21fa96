from .anomalies_in_time import Track as Track
from .embeddings_and_error_bars import Curve as Curve
from .marginals import Marginal as Marginal
from .marked_points import Marked as Marked
