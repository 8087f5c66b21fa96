from .early_stopping import EarlyStopping as EarlyStopping
from .pictures import Pictures as Pictures
from .progress import Progress as Progress
from .resample_dead import ResampleDead as ResampleDead
from .start_at_mean import StartAtMean as StartAtMean
from .start_at_pca import StartAtPCA as StartAtPCA
from .write_checkpoints import Checkpoint as Checkpoint
from .write_checkpoints import CheckpointFiles as CheckpointFiles
