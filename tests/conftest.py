"""Fixtures that every test may use."""

import signal

pytest_plugins = ["tests.servers"]

# A shell's background job ignores Ctrl-C, and so would each command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
