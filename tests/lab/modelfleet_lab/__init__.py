"""The lab: real KVM hosts and guests on one machine, for the demo, the tests, molecule and the benchmarks."""

from .errors import CommandFailed, GuestPanicked, LabError, TimedOut
from .guest import Guest
from .host import Host
from .lab import Lab

__all__ = ["CommandFailed", "Guest", "GuestPanicked", "Host", "Lab", "LabError", "TimedOut"]
