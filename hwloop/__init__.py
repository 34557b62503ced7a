"""hwloop: measure neural networks on the device that will run them, and prune them for it."""

__version__ = "0.1.0"
