from .auroc_and_thresholds import Ranking as Ranking
from .disentanglement_scores import Table as Table
from .embeddings import LinearProbe as LinearProbe
from .feature_extractor import Extractor as Extractor
from .imputation_cases import Case as Case
from .normal_scores import Calibration as Calibration
from .observed_values import Statistics as Statistics
from .reconstruction_errors import ErrorSums as ErrorSums
