from .calibration import Calibration as Calibration
from .detection_quality import Ranking as Ranking
from .embeddings import LinearProbe as LinearProbe
from .factor_scores import Table as Table
from .feature_extractor import Extractor as Extractor
from .hidden_values import Case as Case
from .observed_values import Statistics as Statistics
from .reconstruction_errors import ErrorSums as ErrorSums
