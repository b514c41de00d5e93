"""Hostile input, lost clients, dying engines: what the server must survive, each case under watch."""

import pytest

pytest.register_assert_rewrite("tests.faults.watch", "tests.faults.wire")
