"""What pyproject.toml cannot say: the recorded experiments of the chapters travel in the wheel, as
tricks_lib.evidence.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tricks_lib*"]), "tricks_lib.evidence"],
    package_dir={"tricks_lib.evidence": "chapters/evidence"},
    package_data={"tricks_lib": ["py.typed", "assets/**/*"], "tricks_lib.evidence": ["*.json", "*.npz"]},
    exclude_package_data={"tricks_lib.evidence": ["*.partial.json"]},  # of experiments under way
)
