"""Alexandra: describe a task and how to check it; grow a specialist that passes the check and proves it."""

__version__ = "0.1.0"
