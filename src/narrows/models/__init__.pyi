from .autoencoder import Autoencoder as Autoencoder
from .autoencoder import FittedDensity as FittedDensity
from .autoencoder import Stages as Stages
from .conditional import ConditionalAutoencoder as ConditionalAutoencoder
from .hamiltonian import HamiltonianAutoencoder as HamiltonianAutoencoder
from .vamp import VampAutoencoder as VampAutoencoder
