from .compose_in_process import Composition as Composition
from .composition import Waiting as Waiting
from .leftovers import Cleared as Cleared
