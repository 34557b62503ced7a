"""Readers of the latency tables that users already have."""

from hwloop.tables.readers.netadapt import read_netadapt
from hwloop.tables.readers.nn_meter import KERNELS, kernel_of, read_nn_meter
from hwloop.tables.readers.once_for_all import read_once_for_all
from hwloop.tables.readers.source import UNKNOWN, Source

__all__ = ["KERNELS", "UNKNOWN", "Source", "kernel_of", "read_netadapt", "read_nn_meter", "read_once_for_all"]
