from .job import Job as Job
from .job import SweepJob as SweepJob
from .run_directory import RunDirectory as RunDirectory
from .train_log import TrainLog as TrainLog
