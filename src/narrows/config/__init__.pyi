from .leftovers import Cleared as Cleared
from .leftovers import Composition as Composition
