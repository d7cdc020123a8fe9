import importlib.util
from pathlib import Path


def load_script(name: str):
    """The module ``scripts/<name>.py``, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        name, Path(__file__).resolve().parent.parent / "scripts" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
