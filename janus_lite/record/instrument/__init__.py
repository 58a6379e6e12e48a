"""Function -> instrumented twin: find the source, rewrite the AST, cache per code object."""

from janus_lite.record.instrument.locate import NotInstrumentable, source_file
from janus_lite.record.instrument.route import routed
from janus_lite.record.instrument.twin import Twin, TwinCache

__all__ = ["NotInstrumentable", "Twin", "TwinCache", "routed", "source_file"]
