"""What Python runs first in the processes that an observed script starts: they are observed too."""

import os
import sys

from ampify_observe.begin import begin
from ampify_observe.settings import handed_on


def _go_on() -> None:
    """Runs the sitecustomize that would have been found without this one."""
    here = os.path.dirname(os.path.abspath(__file__))
    for directory in [place for place in sys.path if os.path.abspath(place) != here]:
        path = os.path.join(directory, "sitecustomize.py")
        if os.path.isfile(path):
            with open(path, "rb") as file:
                exec(compile(file.read(), path, "exec"), {"__name__": "sitecustomize", "__file__": path})
            return


_settings = handed_on()
if _settings is not None:
    begin(_settings)
_go_on()
