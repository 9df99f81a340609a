"""Bakeoff's public names. Each is loaded when it is first used, so that ``import harness`` costs milliseconds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.commands.run import run as run
    from harness.contract import Categorical as Categorical
    from harness.contract import Data as Data
    from harness.contract import Float as Float
    from harness.contract import Int as Int
    from harness.contract import Kind as Kind
    from harness.contract import Limits as Limits
    from harness.contract import Measure as Measure
    from harness.contract import Metric as Metric
    from harness.contract import OutputSpec as OutputSpec
    from harness.contract import Split as Split
    from harness.contract import Submission as Submission
    from harness.contract import Task as Task
    from harness.datasets import stratified as stratified
    from harness.datasets import windows as windows
    from harness.errors import BakeoffError as BakeoffError
    from harness.errors import DataError as DataError
    from harness.errors import InvalidPrediction as InvalidPrediction
    from harness.errors import PluginError as PluginError
    from harness.errors import UsageError as UsageError
    from harness.kinds.image_classification import ImageClassification as ImageClassification
    from harness.kinds.image_generation import ImageGeneration as ImageGeneration
    from harness.kinds.sequence_prediction import Forecasting as Forecasting
    from harness.kinds.sequence_prediction import NextToken as NextToken
    from harness.kinds.sequence_prediction import SequenceClassification as SequenceClassification
    from harness.kinds.sequence_prediction import Transduction as Transduction
    from harness.readymade import csv_series as csv_series
    from harness.readymade import image_folder as image_folder
    from harness.readymade import image_table as image_table

_HOME_OF = {
    "harness.contract": (
        "BakeoffError",
        "Categorical",
        "Data",
        "DataError",
        "Float",
        "Int",
        "InvalidPrediction",
        "Kind",
        "Limits",
        "Measure",
        "Metric",
        "OutputSpec",
        "PluginError",
        "Split",
        "Submission",
        "Task",
        "UsageError",
    ),
    "harness.datasets": ("stratified", "windows"),
    "harness.commands.run": ("run",),
    "harness.kinds.image_classification": ("ImageClassification",),
    "harness.kinds.image_generation": ("ImageGeneration",),
    "harness.kinds.sequence_prediction": ("Forecasting", "NextToken", "SequenceClassification", "Transduction"),
    "harness.readymade": ("csv_series", "image_folder", "image_table"),
}
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        spec = importlib.import_module("harness.contract").OutputSpec if name == "Form" else None
        return importlib.import_module("harness.deprecated").module_attribute(__name__, name, spec)
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
