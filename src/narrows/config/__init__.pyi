from .building import Waiting as Waiting
from .compose_in_process import Composition as Composition
from .leftovers import Cleared as Cleared
from .leftovers import PlainChoices as PlainChoices
from .origin import Origin as Origin
