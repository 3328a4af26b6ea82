"""What `otelkit run` puts first on PYTHONPATH: starts telemetry, then runs the sitecustomize that it stands before."""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_rest = [path for path in sys.path if os.path.abspath(path or ".") != _here]

try:
    import otelkit.auto
except ImportError as error:
    sys.stderr.write(
        f"otelkit run: otelkit cannot be imported by {sys.executable} ({error}); install it there. Going on without.\n"
    )
else:
    otelkit.auto.start()

_spec = importlib.machinery.PathFinder.find_spec("sitecustomize", _rest)
if _spec is not None and _spec.loader is not None:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["sitecustomize"] = _module
    _spec.loader.exec_module(_module)
