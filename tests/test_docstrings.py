"""The examples in the docstrings of all modules of the package hold."""

import doctest
import importlib
import importlib.util
import pkgutil
import warnings
from pathlib import Path

import pytest
import torch

import tricks_lib


def modules_with_examples():
    names = ["tricks_lib", *(m.name for m in pkgutil.walk_packages(tricks_lib.__path__, "tricks_lib."))]
    return [name for name in names if ">>>" in Path(importlib.util.find_spec(name).origin).read_text("utf-8")]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_the_docstrings_hold(name, capsys):
    module = importlib.import_module(name)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tiny configurations, which an example does not print
        result = doctest.testmod(module, extraglobs={"torch": torch})  # its examples may take it for granted
    assert result.attempted, f"{name}: its examples are not in docstrings of its own"
    assert not result.failed, capsys.readouterr().out
