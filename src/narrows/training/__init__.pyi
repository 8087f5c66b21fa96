from .fit_in_memory import Fit as Fit
from .fit_in_memory import Memory as Memory
from .lightning_module import AutoencoderModule as AutoencoderModule
from .loggers import CSVHistory as CSVHistory
from .loggers import mlflow as mlflow
from .loggers import wandb as wandb
from .step_history import StepHistory as StepHistory
from .tensorboard import TensorBoard as TensorBoard
