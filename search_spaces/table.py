"""Where spaces are found by name; a new one is a file in this folder and a line here."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from search_spaces.arms import Study
from trainables.config import InputError

SPACES = {
    "full": "search_spaces.full",
    "smoke": "search_spaces.smoke",
    "loss_by_optimizer": "search_spaces.loss_by_optimizer",
    "loss_metrics": "search_spaces.loss_metrics",
    "one_factor_at_a_time": "search_spaces.one_factor_at_a_time",
    "loss_by_activation": "search_spaces.loss_by_activation",
    "loss_by_depth": "search_spaces.loss_by_depth",
}
ATTRIBUTE = "STUDY"


def load_space(name: str) -> Study:
    """The study called ``name``: a line of ``SPACES``, ``package.module:NAME``, or a Python file holding ``STUDY``.

    A file or module is run: this is the one place where a user's code is loaded by the name of a space.

    Raises:
        InputError: If it is not found, does not load, or is not a ``Study``.
    """
    module_name, _, attribute = name.partition(":")
    is_file = name.endswith(".py")
    if not is_file and name not in SPACES and not (module_name and attribute):
        choices = ", ".join(SPACES)
        raise InputError(f"Unknown space {name!r}; choose from {choices}, or give package.module:STUDY or a file.py.")
    try:
        if is_file:
            module, attribute = _load_file(Path(name)), ATTRIBUTE
        elif name in SPACES:
            module, attribute = importlib.import_module(SPACES[name]), ATTRIBUTE
        else:
            module = importlib.import_module(module_name)
        study = getattr(module, attribute)
    except InputError as error:
        raise InputError(f"Space {name!r}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever a user's file does wrong is one line to the user
        reason = str(error).splitlines()[0] if str(error) else ""
        raise InputError(f"The space {name!r} cannot be loaded: {type(error).__name__}: {reason}") from error
    if not isinstance(study, Study):
        raise InputError(f"The space {name!r} must be a search_spaces.arms.Study; got {type(study).__name__}.")
    return study


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"space_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{str(path)!r} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # What stands beside the file can be imported by it, and by the workers (they get the driver's path).
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[spec.name] = module  # a dataclass in the file looks there for its module
    spec.loader.exec_module(module)
    return module
