from .directory import RunDirectory as RunDirectory
from .job import Job as Job
from .job import SweepJob as SweepJob
