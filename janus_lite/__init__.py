"""Speculative graphs for imperative PyTorch: exactly what eager does, or a coded reason.

    import janus_lite

    @janus_lite.speculate
    def step(model, x):
        return model(x).softmax(-1)

The first call runs as always and is recorded. Later calls check what the recorded run relied on
and, when all of it holds, replay its torch calls as straight-line code.
"""

from janus_lite import config, logs
from janus_lite.api import explain, reset, speculate
from janus_lite.errors import BackendError, ConversionError, JanusError, MissError
from janus_lite.report import Report, Stats
from janus_lite.stances import disable, stance

logs.show(config.current().logs)  # nothing unless JANUS_LITE_LOGS is set

__all__ = [
    "BackendError",
    "ConversionError",
    "JanusError",
    "MissError",
    "Report",
    "Stats",
    "disable",
    "explain",
    "reset",
    "speculate",
    "stance",
]
