"""Objects composed by an S3 store of ranges of others: a multipart upload of copied parts.

    create upload -> copy and upload parts, some at once -> look at the sources again -> complete
    -> look at the length

A source must be, before and after, the version that the caller has seen: the store is asked to
check it with every part, but many a server does not, so we look ourselves. Whatever goes wrong,
the upload is aborted; what a process that was killed has left is found again by its name, see
`abort_uploads`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from obstore.store import S3Store

from catalog.errors import (
    CatalogError,
    NotComposableError,
    ObjectNotFoundError,
)
from catalog.location import Location
from catalog.storage.clients import open_client
from catalog.storage.faults import QUOTA_CODES, s3_fault
from catalog.storage.parts import (
    CopiedPart,
    NewPiece,
    Part,
    Source,
    UploadedPart,
)
from catalog.storage.s3_identity import address, environment_proxy, find_credentials
from catalog.storage.s3_requests import Reply, Request, S3RefusalError, Sender, element
from catalog.storage.settings import s3_settings
from catalog.storage.values import ByteRange, RetryPolicy
from catalog.storage.versions import replaced, require_unchanged

if TYPE_CHECKING:
    from catalog.storage.lent import Loan
    from catalog.storage.storage import Storage

_COPIES_IN_FLIGHT_MAX = 8
# An uploaded part is held in memory, and once more while it is put together.
_UPLOADS_IN_FLIGHT_MAX = 2
# An upload that a part is still arriving for may have to be aborted again.
_ABORTS_MAX = 3
# What a server answers that has no such request, one that does not hear us (0: nothing at all),
# and one that has it but not for this object.
_LACKING_STATUSES = (405, 501)
_UNHEARD_STATUSES = (0, 401, 403)
_DECLINING_CODES = ("AccessDenied", "AllAccessDisabled", "InvalidArgument", "InvalidRequest")
_NO_UPLOAD = "NoSuchUpload"
# How new objects are encrypted, by obstore's names.
_ENCRYPTION = {
    "server_side_encryption": "x-amz-server-side-encryption",
    "sse_kms_key_id": "x-amz-server-side-encryption-aws-kms-key-id",
}


@dataclass(slots=True)
class Composer:
    """What composing in one bucket takes; kept per process.

    Attributes:
        client: what obstore knows of the bucket.
        sender: sends what obstore cannot.
        create_headers: what every new object is created with.
        obstacle: why the store does not compose anything, once that has been found out.
    """

    client: S3Store
    sender: Sender
    create_headers: dict[str, str]
    obstacle: str = ""


@lru_cache(maxsize=256)
def _composer(
    bucket: str,
    properties: tuple[tuple[str, str], ...],
    retry: RetryPolicy,
    loan: Loan | None,
) -> Composer:
    """Return what composes in a bucket, made once per process.

    Raises:
        NotComposableError: there are no credentials to sign with.
    """
    client = open_client("s3", bucket, properties=properties, retry=retry, loan=loan)
    assert isinstance(client, S3Store), "the scheme is that of S3"  # noqa: S101 - for the types
    settings = s3_settings(dict(properties), bucket)
    credentials = find_credentials(settings, loan)
    somewhere = address(client, Location.parse(f"s3://{bucket}/x"))
    proxy_url = settings.proxy_url or environment_proxy(somewhere.url)
    sender = Sender(credentials, retry=retry, proxy_url=proxy_url)
    headers = {
        header: settings.config[name]
        for name, header in _ENCRYPTION.items()
        if name in settings.config
    }
    return Composer(client, sender, headers)


def composer(storage: Storage, target: Location) -> Composer:
    """Return what composes objects beside the target.

    Raises:
        NotComposableError: nothing does.
    """
    found = _composer(target.authority, storage.properties, storage.retry, storage.loan)
    if found.obstacle:
        raise NotComposableError(found.obstacle)
    return found


class _Sent(NamedTuple):
    """A part that is in the store."""

    number: int
    etag: str


@dataclass(slots=True)
class Composition:
    """One object on its way."""

    storage: Storage
    composer: Composer
    target: Location
    parts: Sequence[Part]
    _given_up: threading.Event = field(default_factory=threading.Event)

    @property
    def size_bytes(self) -> int:
        """Length of the object."""
        return sum(part.length for part in self.parts)

    @property
    def copied_bytes(self) -> int:
        """The part of it that the store copies."""
        return sum(part.length for part in self.parts if isinstance(part, CopiedPart))

    def run(self) -> None:
        """Make the object, complete and durable.

        Raises:
            NotComposableError: the store does not do it; nothing is left.
            CorruptTableError: a source is not the version that it should be; it is named.
            ObjectNotFoundError: a source is gone; it is named.
            AccessDeniedError, StorageFullError, StorageError: as for any upload.
        """
        created = self._create()
        upload_id = created.value("UploadId")
        is_completing = False
        try:
            sent = self._send_parts(upload_id)
            require_unchanged(self.storage, self._sources())
            is_completing = True
            self._complete(upload_id, sent)
            self._check_length()
        except BaseException:  # interruptions too: parts of an upload that is left cost money
            self._undo(upload_id, is_completing=is_completing)
            raise
        finally:
            if created.tries > 1:
                # The answer to another try may have been lost, and an upload with it.
                with suppress(CatalogError):
                    abort_uploads(self.storage, self.target)
        self.storage.meter.add(bytes_copied=self.copied_bytes)

    def _sources(self) -> Iterator[Source]:
        for part in self.parts:
            for piece in [part.piece] if isinstance(part, CopiedPart) else part.pieces:
                if not isinstance(piece, NewPiece):
                    yield piece.source

    def _create(self) -> Reply:
        headers = dict(self.composer.create_headers)
        try:
            reply = self._request("POST", {"uploads": ""}, headers=headers)
        except S3RefusalError as error:
            if _is_lacking(error):
                self._remember("the store has no multipart uploads")
            if error.status in _UNHEARD_STATUSES and error.code not in QUOTA_CODES:
                # obstore may be let in where we are not; if it is not, that is what will be told.
                reason = error.code or "it gives no answer"
                raise NotComposableError(
                    f"the store does not take our requests: {reason}"
                ) from error
            raise s3_fault("create", self.target, error) from error
        if not reply.value("UploadId"):
            self._remember("the store has no multipart uploads")
        return reply

    def _send_parts(self, upload_id: str) -> list[_Sent]:
        """Send all parts, some at once; the first failure ends it, and is the one to be told."""
        with (
            ThreadPoolExecutor(_COPIES_IN_FLIGHT_MAX, thread_name_prefix="copy") as copying,
            ThreadPoolExecutor(_UPLOADS_IN_FLIGHT_MAX, thread_name_prefix="upload") as uploading,
        ):
            sending = [
                (copying if isinstance(part, CopiedPart) else uploading).submit(
                    self._send, upload_id, number, part
                )
                for number, part in enumerate(self.parts, 1)
            ]
            try:
                done, _ = wait(sending, return_when=FIRST_EXCEPTION)
                for one in sending:
                    if one in done:
                        one.result()
            except BaseException:  # interruptions too: the others must not send on
                self._given_up.set()
                for one in sending:
                    one.cancel()
                raise
            return [one.result() for one in sending]

    def _send(self, upload_id: str, number: int, part: Part) -> _Sent:
        query = {"partNumber": str(number), "uploadId": upload_id}
        if isinstance(part, CopiedPart):
            return _Sent(number, self._copy(query, part))
        return _Sent(number, self._upload(query, part))

    def _copy(self, query: dict[str, str], part: CopiedPart) -> str:
        piece, source = part.piece, part.piece.source
        name = f"{source.location.authority}/{source.location.key}"
        headers = {
            "x-amz-copy-source": f"/{quote(name, safe='/-_.~')}",
            "x-amz-copy-source-range": f"bytes={piece.offset}-{piece.offset + piece.length - 1}",
        }
        if source.etag:
            headers["x-amz-copy-source-if-match"] = source.etag
        try:
            reply = self._request("PUT", query, headers=headers)
        except S3RefusalError as error:
            if error.code == "PreconditionFailed" or error.status == 412:
                raise replaced(source) from error
            if _is_lacking(error):
                self._remember("the store does not copy ranges into parts")
            if error.code in _DECLINING_CODES:
                raise NotComposableError(f"the store declines to copy: {error.code}") from error
            of = self.target if error.code == _NO_UPLOAD else source.location
            raise s3_fault("copy", of, error) from error
        if "CopyPartResult" not in reply.body or not reply.value("ETag"):
            # It took the request for the upload of an empty part.
            self._remember("the store does not copy ranges into parts")
        return reply.value("ETag")

    def _upload(self, query: dict[str, str], part: UploadedPart) -> str:
        data = self._bytes(part)
        try:
            reply = self._request("PUT", query, body=data)
        except S3RefusalError as error:
            raise s3_fault("write", self.target, error) from error
        self.storage.meter.add(bytes_written=len(data))
        # A server that gives none refuses the completion.
        return reply.headers.get("ETag", "")

    def _bytes(self, part: UploadedPart) -> bytes:
        """Return the bytes of a part; those of one object are fetched together."""
        data = bytearray(part.length)
        wanted: dict[Location, list[tuple[ByteRange, int]]] = {}
        at = 0
        for piece in part.pieces:
            if isinstance(piece, NewPiece):
                data[at : at + piece.length] = piece.data
            else:
                place = (ByteRange(piece.offset, piece.length), at)
                wanted.setdefault(piece.source.location, []).append(place)
            at += piece.length
        for location, places in wanted.items():
            fetched = self.storage.read_ranges(location, [one for one, _ in places])
            for (one, at), found in zip(places, fetched, strict=True):
                data[at : at + one.length] = found
        return bytes(data)

    def _complete(self, upload_id: str, sent: Sequence[_Sent]) -> None:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in sent
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        try:
            self._request("POST", {"uploadId": upload_id}, body=body)
        except S3RefusalError as error:
            # The answer may have been lost: a repeated completion finds no upload any more.
            with suppress(ObjectNotFoundError):
                if self.storage.size(self.target) == self.size_bytes:
                    return
            raise s3_fault("complete", self.target, error) from error

    def _check_length(self) -> None:
        found = self.storage.size(self.target)
        if found != self.size_bytes:
            self._remember(f"the store made {found} bytes of ranges of {self.size_bytes}")

    def _undo(self, upload_id: str, *, is_completing: bool) -> None:
        """Leave nothing, as far as the store lets us; the rest is for `abort_uploads`."""
        self._given_up.clear()
        with suppress(S3RefusalError):
            self._request("DELETE", {"uploadId": upload_id})
        if is_completing:
            # The completion may have arrived, or still arrive.
            with suppress(CatalogError):
                self.storage.delete([self.target])

    def _remember(self, obstacle: str) -> None:
        self.composer.obstacle = obstacle
        raise NotComposableError(obstacle)

    def _request(
        self,
        method: str,
        query: dict[str, str],
        *,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        at = address(self.composer.client, self.target)
        self.storage.meter.add(requests=1)
        request = Request(method, at, query, headers or {}, body)
        return self.composer.sender.send(request, given_up=self._given_up)


def abort_uploads(storage: Storage, target: Location) -> int:
    """Abort every unfinished upload of an object that nobody writes any more; return how many.

    Raises:
        AccessDeniedError: the credentials do not allow to list uploads.
        StorageError: the store fails.
    """
    try:
        found = _composer(target.authority, storage.properties, storage.retry, storage.loan)
    except NotComposableError:
        return 0
    aborted = 0
    for _ in range(_ABORTS_MAX):
        uploads = list(_uploads(storage, found, target))
        if not uploads:
            break
        for upload_id in uploads:
            at = address(found.client, target)
            storage.meter.add(requests=1)
            try:
                found.sender.send(Request("DELETE", at, {"uploadId": upload_id}))
            except S3RefusalError as error:
                if error.code != _NO_UPLOAD:
                    raise s3_fault("abort", target, error) from error
            aborted += 1
    return aborted


def _uploads(storage: Storage, found: Composer, target: Location) -> Iterator[str]:
    """Yield the ids of the unfinished uploads of an object."""
    whole = address(found.client, target)
    bucket = replace(whole, url=whole.url.rsplit("/", len(target.segments))[0])
    storage.meter.add(requests=1)
    request = Request("GET", bucket, {"uploads": "", "prefix": target.key})
    try:
        body = found.sender.send(request).body
    except S3RefusalError as error:
        if _is_lacking(error):
            return
        raise s3_fault("list the uploads of", target, error) from error
    for upload in body.split("<Upload>")[1:]:
        if element(upload, "Key") == target.key:
            yield element(upload, "UploadId")


def _is_lacking(error: S3RefusalError) -> bool:
    return error.status in _LACKING_STATUSES
