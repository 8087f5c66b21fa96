from .export_run import Exported as Exported
from .formats import Onnx as Onnx
from .formats import Safetensors as Safetensors
from .formats import TorchExport as TorchExport
from .model_parts import DecoderPart as DecoderPart
from .model_parts import EncoderPart as EncoderPart
from .model_parts import Part as Part
from .model_parts import ReconstructionPart as ReconstructionPart
