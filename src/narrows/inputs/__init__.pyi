from .base import Input as Input
from .covariates import Covariates as Covariates
from .embedding import Embedding as Embedding
from .identity import Identity as Identity
from .missing_indicator import MissingIndicator as MissingIndicator
from .of_counts import L1Normalise as L1Normalise
from .of_counts import L2Normalise as L2Normalise
from .of_counts import Log1p as Log1p
