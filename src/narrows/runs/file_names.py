"""The names of the files and folders of a run, defined once for all."""

CONFIG = "config.yaml"
"""The config with every reference resolved."""
HYDRA = ".hydra"
"""The config before its references were resolved, and Hydra's own config."""
MANIFEST = "manifest.json"
"""Code state, versions, hardware, data and status of the run."""
METRICS = "metrics.json"
"""The final figures."""
HISTORY = "metrics.csv"
"""Every logged value: step, metric, value."""
LOG = "train.log"
LOCK = ".lock"
"""Locked by the process that writes the run."""
ENCODING = "encoding.json"
"""The encoding of a table's columns."""
VOCABULARY = "vocabulary.json"
"""The words of a run of documents."""
TOKENISER = "tokeniser.json"
"""The tokens of a run of texts."""
SCALING = "scaling.json"
"""How arrays were standardised."""
SIGNALS = "signals.json"
"""How the windows of signals were scaled and cut."""
SEEN = "features.json"
"""What the features of pictures were computed with, and how they were scaled."""
CALIBRATION = "calibration.json"
"""The scores of the normal validation rows."""
REPRODUCTION = "reproduction.json"
"""The result of `narrows reproduce`."""

CHECKPOINTS = "checkpoints"
FIGURES = "figures"
TASKS = "tasks"
DENSITIES = "densities"
"""Densities that were fitted after training, by name."""
SAMPLES = "samples"
CODING = "coding"
"""Coding tables of `narrows compress`."""
OLD_DENSITIES = "priors"
"""The name of that folder in an earlier version."""
FOLDERS = (CHECKPOINTS, FIGURES, TASKS, DENSITIES, OLD_DENSITIES, SAMPLES, CODING)

RECORD = (
    *(CONFIG, HYDRA, MANIFEST, METRICS, HISTORY, LOG, LOCK, ENCODING, VOCABULARY, TOKENISER, SCALING, SIGNALS),
    SEEN,
    *(CALIBRATION, REPRODUCTION),
    *(CHECKPOINTS, FIGURES, TASKS, DENSITIES, OLD_DENSITIES, CODING),
)
"""What a run's record consists of; `samples/` may be drawn again."""

SWEEP = "sweep.yaml"
"""The file that marks a directory as a sweep's; its runs lie below it."""
LOGS = "logs"
"""The logs and locks of a sweep's jobs."""
