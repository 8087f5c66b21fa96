from .job import Job as Job
from .job import SweepJob as SweepJob
from .record_types import Calibration as Calibration
from .record_types import Manifest as Manifest
from .record_types import Progress as Progress
from .run_directory import RunDirectory as RunDirectory
from .train_log import TrainLog as TrainLog
