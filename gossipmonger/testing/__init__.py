"""Contract suites: the tests that a storage or a transport has to pass, to run over your own.

* `gossipmonger.testing.storage.StorageContract` for what derives from, or stands in for, `gossipmonger.Storage`
* `gossipmonger.testing.transport.TransportContract` for what derives from, or stands in for, `gossipmonger.Transport`

Each is a class of pytest tests, one for each promise that an endpoint relies on. Subclass it under a name that pytest
collects, override the method that makes a new storage or transport, and run pytest. What a contract can't know, such as where
your database lives, or what happens when a cable is pulled, remains yours to test.

pytest shows what was compared in a failing assertion only where it has rewritten the module; two lines in `conftest.py` have
it do so:

    import pytest

    pytest.register_assert_rewrite("gossipmonger.testing")

The suites need pytest to collect and run them (`pip install gossipmonger[test]`); the package itself never imports them.
"""

__all__: list[str] = []
