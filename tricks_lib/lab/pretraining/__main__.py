"""Pretrain the mini checkpoints: ``python -m tricks_lib.lab.pretraining {bert,xlnet,gpt2,gpt2_zh}``."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from tricks_lib.lab.pretraining.recipes import RECIPES
from tricks_lib.lab.pretraining.train import pretrain


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m tricks_lib.lab.pretraining", description=__doc__.split("\n")[0]
    )
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("TRICKS_DATA"),
        help="folder that holds the corpus (default: TRICKS_DATA)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="folder for state and result; an interrupted run resumes from it",
    )
    parser.add_argument("--steps", type=int, help="number of optimizer steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args(argv)
    if args.data is None:
        parser.error("--data: name the folder that holds the corpus, or set TRICKS_DATA")
    if args.steps is not None and args.steps < 1:
        parser.error(f"--steps: {args.steps} given, a positive number is accepted")
    recipe = replace(RECIPES[args.model], **({"steps": args.steps} if args.steps else {}))
    try:
        pretrain(args.model, Path(args.data), args.out, recipe, torch.device(args.device))
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
