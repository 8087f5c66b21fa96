from .conv import ConvEncoder as ConvEncoder
from .lstm import LSTMEncoder as LSTMEncoder
from .mlp import MLPEncoder as MLPEncoder
from .resnet import ResNetEncoder as ResNetEncoder
from .torchvision import TorchvisionEncoder as TorchvisionEncoder
from .unet import UNetEncoder as UNetEncoder
from .vit import ViTEncoder as ViTEncoder
