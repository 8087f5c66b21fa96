from .config_source import ConfigSource as ConfigSource
from .hub import Reference as Reference
from .open_run import OpenRun as OpenRun
from .start_from import Expansion as Expansion
from .unpacked_run import Unpacked as Unpacked
