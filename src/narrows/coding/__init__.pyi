from .ans_entropy_coder import Table as Table
from .coding_tables import Fitted as Fitted
from .coding_tables import Tables as Tables
from .example_files import Examples as Examples
from .model_codec import Codec as Codec
from .nrwz_file import Header as Header
from .pieces import Piece as Piece
from .side_information import SideInformation as SideInformation
