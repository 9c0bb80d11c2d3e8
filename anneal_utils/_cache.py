"""A memory of recent values that can not outgrow a number of bytes."""

import threading
from collections import OrderedDict


class Recent:
    """The most recently used values by key; the oldest go when the rest would be over ``limit``.

    ``limit`` is in bytes; the newest value is kept whatever its size. Safe for threads.
    """

    def __init__(self, limit: int):
        """Nothing is remembered yet."""
        self.limit, self.used = limit, 0
        self._values: OrderedDict = OrderedDict()  # key: (value, bytes)
        self._lock = threading.Lock()

    def get(self, key):
        """The value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key, value, size: int):
        """Remember ``value`` of ``size`` bytes and return it."""
        with self._lock:
            self.used += size - self._values.pop(key, (None, 0))[1]
            self._values[key] = (value, size)
            while self.used > self.limit and len(self._values) > 1:
                _, (_, freed) = self._values.popitem(last=False)
                self.used -= freed
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()
            self.used = 0

    def __len__(self):
        """How many values are remembered."""
        return len(self._values)
