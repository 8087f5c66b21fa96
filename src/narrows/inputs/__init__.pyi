from .base import Input as Input
from .identity import Identity as Identity
from .log1p import Log1p as Log1p
from .missing_indicator import MissingIndicator as MissingIndicator
from .scaled_rows import L1Normalise as L1Normalise
from .scaled_rows import L2Normalise as L2Normalise
