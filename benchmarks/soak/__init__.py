"""A service that runs for half an hour while its collector comes and goes and it is restarted: nothing may be lost that
nobody counted, and nothing may grow.
"""

from benchmarks.soak.result import Result, shown
from benchmarks.soak.run import measure

__all__ = ["Result", "measure", "shown"]
