"""Fixtures of the tests of operating."""

from tests.people.conftest import manage

__all__ = ["manage"]
