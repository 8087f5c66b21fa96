"""The GRU's second halves: free of the target, and autoregressive."""

from narrows.decoders.recurrent import AutoregressiveRecurrentDecoder, RecurrentDecoder


class GRUDecoder(RecurrentDecoder):
    """The decoder of `RecurrentDecoder` with gated recurrent units."""

    cell = "gru"


class AutoregressiveGRUDecoder(AutoregressiveRecurrentDecoder):
    """The decoder of `AutoregressiveRecurrentDecoder` with gated recurrent units."""

    cell = "gru"
