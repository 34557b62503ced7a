"""Every exception that hwloop raises on purpose.

::

    HwloopError
    ├── UserError                  what the user gave cannot be used; the CLI prints one line and exits with 2
    │   ├── ConfigError            a key of study.toml (names the key and its line)
    │   ├── DataError              a data file or its labels
    │   ├── ModelError             a network that cannot be built, traced, sliced or exported
    │   │   └── DivergedError      a training whose loss or weights are no numbers any more
    │   ├── CheckpointError        the saved state of a training: another one's, damaged, or not writable
    │   ├── StudyError             a study directory that cannot be used (another study's, in use, damaged)
    │   └── AccessError            a device that may not be entered: its host key is not the pinned one, or no key fits
    ├── JournalError               a journal that cannot be read or written
    ├── EvaluationError            infrastructure: the workers that evaluate candidates, or the way to them
    └── DeviceError                infrastructure: the device or the way to it, never a measured outcome
        ├── TransportError         the channel broke, or could not be opened
        ├── ProtocolError          the peer said something that the protocol does not allow
        │   └── AgentMismatchError the peer is not the agent that was sent; trying again is no use
        ├── AgentError             the agent answered that it could not do what was asked
        └── DeviceBusyError        somebody else holds the device's lease

A trial that crashes, runs out of memory or times out is *not* an exception: it is a measurement with that status.
"""

from __future__ import annotations


class HwloopError(Exception):
    """Base of all errors that hwloop raises on purpose; its text is one line that a user can act on."""


class UserError(HwloopError):
    """What the user gave cannot be used. The text names the thing, the limit and the remedy."""


class ConfigError(UserError):
    """A study file has a key that is unknown, missing or of the wrong kind."""


class DataError(UserError):
    """A data file is missing, unreadable, or does not fit the network."""


class ModelError(UserError):
    """A network cannot be built, traced, sliced or exported."""


class DivergedError(ModelError):
    """A training's loss or weights are not finite any more: its learning rate was too high for this network."""


class CheckpointError(UserError):
    """The saved state of a training belongs to another one, is damaged, or cannot be written."""


class StudyError(UserError):
    """A study directory cannot be used."""


class AccessError(UserError):
    """A device may not be entered: its host key is not the pinned one, or it accepts no key; trying again is no use."""


class JournalError(HwloopError):
    """A journal cannot be read or written."""


class EvaluationError(HwloopError):
    """The workers that evaluate candidates failed; says nothing about the candidates."""


class DeviceError(HwloopError):
    """The device or the way to it failed; says nothing about the network that was being measured."""


class TransportError(DeviceError):
    """The channel to the agent broke or could not be opened."""


class ProtocolError(DeviceError):
    """The peer sent something that the protocol does not allow."""


class AgentMismatchError(ProtocolError):
    """What answers is not the agent that was sent, or speaks another protocol; trying again is no use."""


class AgentError(DeviceError):
    """The agent answered that it could not do what was asked."""


class DeviceBusyError(DeviceError):
    """Another session holds the device's lease.

    Attributes:
        leaving: it is an earlier session of this very process, which has been asked to finish its trial and leave.
    """

    def __init__(self, text: str, *, leaving: bool = False) -> None:
        super().__init__(text)
        self.leaving = leaving
