"""What the package asks for only where it is used: the extras of ``pyproject.toml``."""

from importlib.util import find_spec

__all__ = ["need"]


def need(extra: str, *modules: str) -> None:
    """Raise an ``ImportError`` that says how to install the extra if one of its modules is missing."""
    missing = [module for module in modules if not _is_there(module)]
    if missing:
        raise ImportError(
            f"tricks_lib.{extra} needs {', '.join(missing)}: pip install 'tricks_lib[{extra}]'",
            name=missing[0],
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
