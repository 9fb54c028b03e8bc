"""A store in a bucket: Amazon S3, or anything that speaks its protocol and honours `If-None-Match: *`.

Region, endpoint and credentials come from the standard AWS variables and files; credentials that expire are refreshed
by the SDK, so a job of a week outlives them. Keep the bucket unversioned: Ceph ignores the condition on versioned ones.

Three clients of one session, because their requests differ in what a second try means:
    plain        small idempotent requests: short timeouts, retried with jitter
    conditional  create-if-absent: never retried, since a retry would meet its own first try and call it a rival
    transfer     large files in parts: patient, retried
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import SystemRandom
from typing import Any, TypeVar

import boto3
from boto3.s3.transfer import TransferConfig
from botocore import exceptions as aws
from botocore.config import Config

from jobs.errors import GankilnError, StoreError
from service.store.base import (
    FullStore,
    KeyNotFound,
    RequestObserver,
    Stat,
    StoreRefused,
    Unavailable,
    UnsafeStore,
    check_key,
    check_prefix,
    ignore_request,
    is_key,
    replacing,
)

PAGE = 1000  # what one ListObjectsV2 returns at most
CONNECT_SECONDS = 5
READ_SECONDS = {"plain": 20, "conditional": 30, "transfer": 60}
SDK_TRIES = {"plain": 1, "conditional": 1, "transfer": 5}  # the SDK does not know every "429" that servers give
TRIES = 3  # of plain requests, our own
PAUSE_SECONDS = 0.2  # before the second try at most, doubled for the third; full jitter
PART_BYTES = 32 << 20  # 10,000 parts: files up to 312 GiB
PARALLEL_PARTS = 2  # Cloudflare R2 refuses more on one object

_OPERATIONS = {
    "GetObject": "get",
    "PutObject": "put",
    "HeadObject": "stat",
    "DeleteObject": "delete",
    "ListObjectsV2": "list",
    "CopyObject": "copy",
}
_CODES = {404: "absent", 409: "conflict", 412: "exists"}
_REFUSALS = {
    "NoSuchBucket": ("there is no bucket {bucket!r} at {endpoint}", "make the bucket, or correct GANKILN_STORE"),
    "InvalidBucketName": ("{bucket!r} cannot be the name of a bucket", "correct GANKILN_STORE"),
    "InvalidAccessKeyId": ("{endpoint} does not know this access key", "check AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": ("{endpoint} refuses the signature: the secret is wrong", "check AWS_SECRET_ACCESS_KEY"),
    "ExpiredToken": ("the credentials have expired", "renew them, or use ones that refresh themselves"),
    "InvalidToken": ("{endpoint} does not know this session token", "check AWS_SESSION_TOKEN"),
    "RequestTimeTooSkewed": ("the clock of this machine is more than 15 minutes off", "set the clock (NTP)"),
    "AuthorizationHeaderMalformed": ("{endpoint} expects another region", "check AWS_REGION"),
    "PermanentRedirect": ("the bucket {bucket!r} is in another region", "check AWS_REGION"),
    "AccessDenied": (
        "no permission to {operation} in bucket {bucket!r}",
        "the credentials need s3:GetObject, PutObject, DeleteObject on it and s3:ListBucket on the bucket",
    ),
}
_REFUSALS |= {
    # The answer to a HEAD has no body that could say which it is.
    "403": (
        "no permission to {operation} in bucket {bucket!r}, or wrong keys",
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do",
    ),
    "Forbidden": _REFUSALS["AccessDenied"],
    "AllAccessDisabled": _REFUSALS["AccessDenied"],
    "301": _REFUSALS["PermanentRedirect"],
}
_FULL = ("XMinioStorageFull", "QuotaExceeded", "507")


Answer = TypeVar("Answer")
_dice = SystemRandom()


class S3Store:
    """A bucket, or a prefix of one."""

    def __init__(self, bucket: str, prefix: str, session: boto3.Session) -> None:
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self.observer: RequestObserver = ignore_request
        self.settle_seconds = 0.0
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._skew_seconds = 0.0
        with self._translated("reach", bucket):
            self.endpoint: str = session.client("s3").meta.endpoint_url
            self._plain, self._conditional, self._transfer = (
                self._client(session, purpose) for purpose in ("plain", "conditional", "transfer")
            )
        self._parts = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=PARALLEL_PARTS
        )

    @classmethod
    def at(cls, url: str) -> "S3Store":
        """The store at `s3://bucket/prefix`, with credentials from the environment."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not bucket:
            raise StoreRefused(f"{url}: names no bucket", hint="s3://bucket or s3://bucket/prefix")
        if prefix:
            check_key(prefix)
        return cls(bucket, prefix, boto3.Session())

    def get(self, key: str) -> bytes:
        return self.read(key)[0]

    def read(self, key: str) -> tuple[bytes, Stat]:
        def read() -> tuple[bytes, Stat]:
            answer = self._plain.get_object(Bucket=self.bucket, Key=self._full(key))
            data = answer["Body"].read()
            return data, _stat(key, len(data), answer["LastModified"], answer["ETag"])

        return self._repeated("get", key, read)

    def put(self, key: str, data: bytes) -> None:
        self._repeated("put", key, lambda: self._plain.put_object(Bucket=self.bucket, Key=self._full(key), Body=data))

    def create(self, key: str, data: bytes) -> bool:
        try:
            with self._translated("create", key):
                self._conditional.put_object(Bucket=self.bucket, Key=self._full(key), Body=data, IfNoneMatch="*")
        except _AlreadyThere:
            return False
        except KeyNotFound as error:  # some servers answer a lost race so
            raise Unavailable(f"{key}: create was answered with 404") from error
        return True

    def delete(self, key: str) -> None:
        with suppress(KeyNotFound):
            self._repeated("delete", key, lambda: self._plain.delete_object(Bucket=self.bucket, Key=self._full(key)))

    def stat(self, key: str) -> Stat | None:
        try:
            found = self._repeated(
                "stat", key, lambda: self._plain.head_object(Bucket=self.bucket, Key=self._full(key))
            )
        except KeyNotFound:
            return None
        return _stat(key, found["ContentLength"], found["LastModified"], found["ETag"])

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        check_prefix(prefix)
        left = limit if limit is not None else -1
        for stat in self._listed(prefix, min(limit or PAGE, PAGE), start_after):
            if left == 0:
                return
            left -= 1
            yield stat

    def copy(self, source: str, target: str) -> None:
        origin = {"Bucket": self.bucket, "Key": self._full(source)}
        with self._translated("copy", source):
            self._transfer.copy(origin, self.bucket, self._full(target), Config=self._parts)

    def upload(self, key: str, path: Path) -> None:
        with self._translated("upload", key):
            self._transfer.upload_file(str(path), self.bucket, self._full(key), Config=self._parts)

    def download(self, key: str, path: Path) -> None:
        with replacing(path) as file, self._translated("download", key):
            self._transfer.download_fileobj(self.bucket, self._full(key), file, Config=self._parts)

    def make_folder(self, prefix: str) -> None:
        check_prefix(prefix)  # a bucket has no folders

    def server_time_seconds(self) -> float:
        return time.time() - self._skew_seconds

    def clock_skew_seconds(self) -> float:
        return self._skew_seconds

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _listed(self, prefix: str, page: int, start_after: str) -> Iterator[Stat]:
        """Keys page by page; keys that are no keys of ours (folder markers, tricks) are passed over."""
        asked: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self._prefix + prefix, "MaxKeys": page}
        if start_after:
            asked["StartAfter"] = self._prefix + start_after
        while True:
            answer = self._repeated("list", prefix or "/", lambda: self._plain.list_objects_v2(**asked))
            for found in answer.get("Contents", []):
                key = found["Key"].removeprefix(self._prefix)
                if is_key(key):
                    yield _stat(key, found["Size"], found["LastModified"], found["ETag"])
            if not answer.get("IsTruncated"):
                return
            asked["ContinuationToken"] = answer["NextContinuationToken"]

    def _client(self, session: boto3.Session, purpose: str) -> Any:
        custom = "amazonaws.com" not in self.endpoint
        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS[purpose],
            retries={"total_max_attempts": SDK_TRIES[purpose], "mode": "standard"},
            max_pool_connections=16,
            tcp_keepalive=True,
            user_agent_extra="gankiln",
        )
        if custom:
            # Servers that are not Amazon's often know neither virtual hosts nor the newer checksums (R2, B2, Ceph 16).
            config = config.merge(
                Config(
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
            )
        client = session.client("s3", config=config)
        client.meta.events.register("before-call.s3", _remember_start)
        client.meta.events.register("response-received.s3", lambda **event: self._observe(purpose, **event))
        return client

    def _observe(self, purpose: str, **event: Any) -> None:
        """Tell the observer of one attempt of one request, and look at the server's clock."""
        context, now = event["context"], time.monotonic()
        name = event["event_name"].rpartition(".")[2]
        operation = "create" if purpose == "conditional" else _OPERATIONS.get(name, name)
        if event["response_dict"] is None:
            code = type(event["exception"]).__name__
        else:
            status = event["response_dict"]["status_code"]
            code = "ok" if status < 300 else _CODES.get(status, str(status))
            self._read_clock(event["response_dict"]["headers"])
        self.observer(operation, code, now - context.get("gankiln_started", now))
        context["gankiln_started"] = now

    def _read_clock(self, headers: Any) -> None:
        date = headers.get("date")
        if not date:
            return
        try:
            self._skew_seconds = time.time() - parsedate_to_datetime(date).timestamp()
        except ValueError:
            return  # a server without a usable clock is shown as having ours

    def _repeated(self, operation: str, key: str, ask: Callable[[], Answer]) -> Answer:
        """The answer to a request that may be asked again, after a pause with full jitter."""
        for attempt in range(1, TRIES):
            try:
                with self._translated(operation, key):
                    return ask()
            except Unavailable:
                time.sleep(_dice.uniform(0, PAUSE_SECONDS * 2**attempt))
        with self._translated(operation, key):
            return ask()

    @contextmanager
    def _translated(self, operation: str, key: str) -> Iterator[None]:
        """What the SDK raises, as ours, with a sentence and a remedy."""
        try:
            yield
        except aws.ClientError as error:
            raise self._answered(error, operation, key) from error
        except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
            raise StoreRefused(
                f"{self.url}: there are no usable credentials ({error})",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
            ) from error
        except (aws.ParamValidationError, aws.NoRegionError, aws.InvalidEndpointConfigurationError) as error:
            raise StoreRefused(
                f"{self.url}: {error}", hint="check GANKILN_STORE, AWS_REGION, AWS_ENDPOINT_URL"
            ) from error
        except boto3.exceptions.S3UploadFailedError as error:
            cause = error.__context__
            if isinstance(cause, aws.ClientError):
                raise self._answered(cause, operation, key) from error
            raise Unavailable(f"{key}: {operation} failed: {error}") from error
        except (aws.BotoCoreError, aws.HTTPClientError, boto3.exceptions.Boto3Error) as error:
            raise Unavailable(f"{key}: {operation} got no answer: {error}") from error

    def _answered(self, error: aws.ClientError, operation: str, key: str) -> GankilnError:
        """An error that the server answered with."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        sentence = f"{key}: {operation} was answered with {status} {code}"
        if code in _REFUSALS:
            said, hint = _REFUSALS[code]
            said = said.format(bucket=self.bucket, endpoint=self.endpoint, operation=operation)
            return StoreRefused(f"{self.url}: {said}", hint=hint)
        if code in _FULL:
            return FullStore(sentence, hint="make room, or raise the quota")
        match status:
            case 404:
                return KeyNotFound(key)
            case 412:
                return _AlreadyThere(sentence)
            case 501 if operation == "create":
                return UnsafeStore(f"{self.url}: does not know If-None-Match, which the queue rests on")
            case 408 | 409 | 425 | 429 | 0:
                return Unavailable(sentence)
            case _ if status >= 500:
                return Unavailable(sentence)
            case _:
                return StoreError(f"{sentence}: {error.response.get('Error', {}).get('Message', '')}")


class _AlreadyThere(StoreError):
    """412: the condition of a create did not hold."""


def _remember_start(context: dict[str, Any], **event: Any) -> None:
    context["gankiln_started"] = time.monotonic()


def _stat(key: str, size_bytes: int, modified: datetime, etag: str) -> Stat:
    return Stat(key, size_bytes, modified.timestamp(), etag.strip('"'))
