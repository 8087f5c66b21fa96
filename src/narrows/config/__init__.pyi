from .leftovers import Cleared as Cleared
from .compose_in_process import Composition as Composition
