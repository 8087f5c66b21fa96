from .autoencoder import Autoencoder as Autoencoder
from .composite_prior import CompositePriorAutoencoder as CompositePriorAutoencoder
from .conditional import ConditionalAutoencoder as ConditionalAutoencoder
from .hamiltonian import HamiltonianAutoencoder as HamiltonianAutoencoder
from .stages import DataReader as DataReader
from .stages import FittedDensity as FittedDensity
from .stages import Stages as Stages
from .vamp import VampAutoencoder as VampAutoencoder
