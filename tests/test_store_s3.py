"""What is special about S3: what servers answer, what the network does, and the sentences that people get."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.errors import StoreError
from service.store import FullStore, KeyNotFound, Store, StoreRefused, Unavailable, UnsafeStore, open_store
from service.store import s3 as s3_module
from tests.s3_servers import AWS_VARIABLES, S3Server, environment_of, s3_server


class Scripted(BaseHTTPRequestHandler):
    """Answers with what the test says, and keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    answers: list[tuple[int, str]]
    asked: list[tuple[str, str, dict[str, str]]]

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, code = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status == 0:  # hang up without a word
            self.connection.close()
            self.close_connection = True
            return
        if code == "cut off":  # an answer that ends in its middle
            self.send_response(status)
            self.send_header("Content-Length", "100")
            self.send_header("ETag", '"e"')
            self.send_header("Last-Modified", "Mon, 23 Nov 2026 12:00:00 GMT")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        body = f"<Error><Code>{code}</Code><Message>scripted</Message></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Scripted]]:
    """A scripted server that `open_store` finds."""
    handler = type("Handler", (Scripted,), {"answers": [(200, "")], "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for variable in AWS_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(script: type[Scripted]) -> Store:
    return open_store("s3://bucket/some/prefix")


def test_a_create_carries_the_condition_and_is_asked_once(store: Store, script: type[Scripted]) -> None:
    assert store.create("log/1", b"x") is True
    [(method, path, headers)] = script.asked
    assert (method, path) == ("PUT", "/bucket/some/prefix/log/1")
    assert headers["if-none-match"] == "*"
    assert "x-amz-checksum-crc32" not in headers  # not every server knows it
    assert headers.get("transfer-encoding") is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "ConditionalRequestConflict"),
        (429, "SlowDown"),
        (500, "InternalError"),
        (503, "SlowDown"),
        (404, "NoSuchKey"),
    ],
)
def test_an_unclear_answer_to_a_create_is_never_a_no(
    store: Store, script: type[Scripted], status: int, code: str
) -> None:
    script.answers = [(status, code), (200, "")]
    with pytest.raises(Unavailable):
        store.create("log/1", b"x")
    assert len(script.asked) == 1  # a second try would meet its own first one


def test_a_lost_answer_to_a_create_is_unclear(store: Store, script: type[Scripted]) -> None:
    script.answers = [(0, ""), (200, "")]
    with pytest.raises(Unavailable):
        store.create("log/1", b"x")
    assert len(script.asked) == 1


def test_a_lost_race_is_a_no(store: Store, script: type[Scripted]) -> None:
    script.answers = [(412, "PreconditionFailed")]
    assert store.create("log/1", b"x") is False


def test_a_server_that_does_not_know_the_condition_is_unsafe(store: Store, script: type[Scripted]) -> None:
    script.answers = [(501, "NotImplemented")]
    with pytest.raises(UnsafeStore, match="If-None-Match"):
        store.create("log/1", b"x")


@pytest.mark.parametrize("trouble", [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests"), (0, "")])
def test_what_may_be_repeated_is_repeated(store: Store, script: type[Scripted], trouble: tuple[int, str]) -> None:
    seen = []
    store.observer = lambda operation, code, seconds: seen.append(operation)
    script.answers = [trouble, (200, "")]
    store.put("hb/1", b"x")
    assert len(script.asked) == 2
    assert seen == ["put", "put"]  # each request counts


def test_an_answer_that_ends_in_its_middle_is_asked_for_again(store: Store, script: type[Scripted]) -> None:
    script.answers = [(200, "cut off"), (404, "NoSuchKey")]
    with pytest.raises(KeyNotFound):
        store.get("log/1")
    assert len(script.asked) == 2


def test_patience_ends(store: Store, script: type[Scripted]) -> None:
    script.answers = [(503, "SlowDown")]
    with pytest.raises(Unavailable, match="hb/1: put"):
        store.put("hb/1", b"x")
    assert len(script.asked) == s3_module.TRIES


@pytest.mark.parametrize(
    ("status", "code", "kind", "sentence"),
    [
        (404, "NoSuchBucket", StoreRefused, "there is no bucket 'bucket'"),
        (403, "InvalidAccessKeyId", StoreRefused, "does not know this access key"),
        (403, "SignatureDoesNotMatch", StoreRefused, "the secret is wrong"),
        (403, "AccessDenied", StoreRefused, "no permission to put in bucket 'bucket'"),
        (403, "RequestTimeTooSkewed", StoreRefused, "the clock of this machine"),
        (400, "ExpiredToken", StoreRefused, "have expired"),
        (400, "AuthorizationHeaderMalformed", StoreRefused, "expects another region"),
        (403, "QuotaExceeded", FullStore, "QuotaExceeded"),
        (400, "InvalidArgument", StoreError, "400 InvalidArgument: scripted"),
    ],
)
def test_what_people_did_wrong_is_one_sentence_with_a_hint(
    store: Store, script: type[Scripted], status: int, code: str, kind: type[Exception], sentence: str
) -> None:
    script.answers = [(status, code)]
    with pytest.raises(kind) as error:
        store.put("hb/1", b"x")
    assert sentence in str(error.value)
    assert kind is StoreError or "hint: " in str(error.value)
    assert "very-secret" not in str(error.value)


def test_a_head_cannot_say_which_and_says_so(store: Store, script: type[Scripted]) -> None:
    script.answers = [(403, "")]
    with pytest.raises(StoreRefused, match="or wrong keys"):
        store.stat("hb/1")


def test_nobody_listens(store: Store, script: type[Scripted], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    silent = open_store("s3://bucket")
    for act in (lambda: silent.get("a"), lambda: silent.create("a", b""), lambda: [*silent.list("")]):
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
            act()


def test_no_credentials(script: type[Scripted], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreRefused, match="no usable credentials"):
        open_store("s3://bucket").get("a")


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "gs://bucket", "http://bucket/x"])
def test_addresses_that_are_none(url: str, script: type[Scripted]) -> None:
    with pytest.raises(StoreRefused) as error:
        open_store(url)
    assert error.value.hint


def test_a_bucket_that_cannot_be_one(script: type[Scripted]) -> None:
    with pytest.raises(StoreRefused, match="bucket name"):
        open_store("s3://no such bucket!/x").get("a")


def test_a_prefix_does_not_climb(script: type[Scripted]) -> None:
    with pytest.raises(StoreError, match=r"\.\."):
        open_store("s3://bucket/../other")


@pytest.mark.s3
class TestWithServer:
    """On a real server."""

    @pytest.fixture
    def server(self) -> S3Server:
        return s3_server("seaweedfs")

    def test_wrong_secret_and_missing_bucket(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        with environment_of(server):
            with pytest.raises(StoreRefused, match="no bucket 'not-there'"):
                [*open_store("s3://not-there").list("")]
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
            with pytest.raises(StoreRefused, match="secret is wrong"):
                [*open_store("s3://not-there").list("")]

    def test_a_server_that_freezes(self, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(s3_module, "READ_SECONDS", {"plain": 0.3, "conditional": 0.3, "transfer": 0.3})
        with environment_of(server):
            store = open_store(f"s3://{server.make_bucket()}/a")
            store.put("before", b"x")
            server.pause()
            try:
                started = time.monotonic()
                with pytest.raises(Unavailable):
                    store.create("log/1", b"mine")
                assert time.monotonic() - started < 3
                with pytest.raises(Unavailable):
                    store.get("before")
            finally:
                server.resume()
            # What was asked while it was frozen may have been done: the caller reads and compares.
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                try:
                    assert store.create("log/1", b"mine") or store.get("log/1") == b"mine"
                    break
                except Unavailable:
                    time.sleep(0.2)
            assert store.get("log/1") == b"mine"
            assert store.get("before") == b"x"

    def test_two_prefixes_of_a_bucket_do_not_see_each_other(self, server: S3Server) -> None:
        with environment_of(server):
            bucket = server.make_bucket()
            one, other = open_store(f"s3://{bucket}/one"), open_store(f"s3://{bucket}/one-more/")
            one.put("a/b", b"one")
            assert [*other.list("")] == []
            with pytest.raises(KeyNotFound):
                other.get("a/b")
            assert [stat.key for stat in open_store(f"s3://{bucket}").list("")] == ["one/a/b"]

    def test_foreign_keys_are_left_out(self, server: S3Server) -> None:
        with environment_of(server):
            bucket = server.make_bucket()
            client = server.client()
            for key in ("inbox/", "inbox/good.yaml", "inbox/odd\u202e.yaml"):
                client.put_object(Bucket=bucket, Key=key, Body=b"")
            assert [stat.key for stat in open_store(f"s3://{bucket}").list("inbox/")] == ["inbox/good.yaml"]
