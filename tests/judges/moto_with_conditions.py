"""moto's server whose conditional writes are one step, as those of S3 are.

Usage: moto_with_conditions.py --host HOST --port PORT

moto compares the version and writes the object afterwards: of two writers at the same time, both
may find the same version.
"""

from __future__ import annotations

import sys
import threading

from moto.core.common_types import TYPE_RESPONSE
from moto.s3.responses import S3Response
from moto.server import main

_put = S3Response.put_object
_lock = threading.Lock()


def put_object(self: S3Response) -> TYPE_RESPONSE:
    """Compare and write before the next one does."""
    with _lock:
        return _put(self)


S3Response.put_object = put_object
main(sys.argv[1:])
