#!/usr/bin/env bash
# Rewrites requirements.txt from pyproject.toml's extras (`make lock`); needs uv (pip install uv).
# One version for all Pythons (fewest forks), so that stored outputs do not depend on the interpreter.
# torch is locked as a plain version: the index you install from decides between its CPU and CUDA
# builds, and the build brings its own CUDA packages; those, and what only a browser or PyPy needs, stay out.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  echo "# The book's exact environment, for Python 3.11 to 3.13; written by \`make lock\`."
  echo "# tricks_lib itself asks for much less: see pyproject.toml."
  echo "torch==2.13.0" |
    uv pip compile - pyproject.toml --extra lab --extra book --extra test \
      --universal --python-version 3.11 --fork-strategy fewest \
      --no-annotate --no-header --no-emit-index-url --quiet |
    grep -vE "^(nvidia-|cuda-|triton==)|== '(emscripten|pypy|win32)'" |
    sed -E "s/ ; sys_platform != 'emscripten'( and sys_platform != 'win32')?$//"
} > requirements.txt.new
mv requirements.txt.new requirements.txt
