from .config_source import ConfigSource as ConfigSource
from .open_run import OpenRun as OpenRun
from .start_from import Expansion as Expansion
from .unpacked_run import Unpacked as Unpacked
