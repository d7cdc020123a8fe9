"""Figures with sliders: what draws them (:mod:`.figure`), and a module for each chapter that has one."""

from tricks_lib.lab.interactive.figure import axes, playground, source

__all__ = ["axes", "playground", "source"]
