from .ans import Table as Table
from .codec import Codec as Codec
from .coding_tables import Fitted as Fitted
from .coding_tables import Tables as Tables
from .example_files import Examples as Examples
from .nrwz_file import Header as Header
