"""For tests: a target in memory, and the contract that every kind of target keeps.

A new kind of target is tested by one class::

    class TestMyTarget(TargetContract):
        def make_target(self) -> Target:
            return MyTarget("mine", url="http://127.0.0.1:8080")
"""

from replicator.testing.content import BytesContent, FailingContent, ZeroContent
from replicator.testing.contract import TargetContract
from replicator.testing.memory import MemoryTarget

__all__ = ["BytesContent", "FailingContent", "MemoryTarget", "TargetContract", "ZeroContent"]
