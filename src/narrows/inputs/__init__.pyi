from .base import Input as Input
from .identity import Identity as Identity
from .missing_indicator import MissingIndicator as MissingIndicator
