from .in_memory import Fit as Fit
from .in_memory import Memory as Memory
from .loggers import CSVHistory as CSVHistory
from .loggers import TensorBoard as TensorBoard
from .loggers import mlflow as mlflow
from .loggers import wandb as wandb
from .module import AutoencoderModule as AutoencoderModule
from .step_history import StepHistory as StepHistory
