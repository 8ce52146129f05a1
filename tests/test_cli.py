"""The command line end to end: what a run leaves, what it prints, and how it refuses.

Everything is played on one small system, so that simulations share a compilation. Runs whose
streams, device or precision matter are other interpreters; the rest call the entry point here.
"""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path

import jax
import jsonschema_free as schema_check
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrisk import cli
