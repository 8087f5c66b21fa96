from .open_run import OpenRun as OpenRun
