"""Object storage for tables: local files and buckets behind one picklable value."""

from catalog.storage.output import OutputFile
from catalog.storage.storage import Storage
from catalog.storage.values import ByteRange, Meter, ObjectInfo, RetryPolicy, StorageTally

__all__ = [
    "ByteRange",
    "Meter",
    "ObjectInfo",
    "OutputFile",
    "RetryPolicy",
    "Storage",
    "StorageTally",
]
