"""Serve a study to workers: at a private socket, or at a port that requires a token."""

from __future__ import annotations

import hmac
import secrets
import ssl
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy
from optuna.storages._grpc.auto_generated import api_pb2_grpc
from optuna.storages._grpc.client import GrpcClientCache
from optuna.storages._grpc.servicer import OptunaStorageProxyService
from sqlalchemy.exc import SQLAlchemyError

from evenhand.errors import EvenhandError
from evenhand.workers import MeetingPoint, NetworkHost

TOKEN = "evenhand-token"
"""The metadata key of a call's token."""

_THREADS = 10  # calls that are answered at the same time
_LARGEST = 64 * 2**20  # bytes of a worker's message; reports of trials are far smaller
_SERVER = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _LARGEST))
_CHANNEL = (("grpc.max_receive_message_length", -1),)


@dataclass(frozen=True)
class Access:
    """The address of a served study, and the credentials for it.

    Parameters
    ----------
    target
        A socket (``unix:/path``) or ``HOST:PORT``, as gRPC writes it.
    token
        The secret that each call carries; each search has a new one.
    certificate
        The server's certificate (PEM); None without TLS.
    """

    target: str
    token: str = field(repr=False)
    certificate: bytes | None = field(default=None, repr=False)

    def channel(self) -> grpc.Channel:
        """Open a channel whose calls carry the token."""
        if self.certificate is None:
            channel = grpc.insecure_channel(self.target, options=_CHANNEL)
        else:
            trusted = grpc.ssl_channel_credentials(self.certificate)
            channel = grpc.secure_channel(self.target, trusted, options=_CHANNEL)
        return grpc.intercept_channel(channel, _WithToken(self.token))


class StudyProxy(GrpcStorageProxy):
    """Optuna's proxy of a storage in another process, reached by an `Access`; it can be pickled."""

    def __init__(self, access: Access) -> None:
        self.access = access
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # since Optuna 4.2
            super().__init__()

    def _setup(self) -> None:
        self._channel = self.access.channel()
        self._stub = api_pb2_grpc.StorageServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._cache = GrpcClientCache(self._stub)

    def wait_server_ready(self, timeout: float | None = None) -> None:
        """Wait until the server answers.

        Raises
        ------
        ConnectionError
            If the server does not answer within ``timeout`` seconds.
        """
        with self.access.channel() as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=timeout)
            except grpc.FutureTimeoutError as error:
                raise ConnectionError("no answer in time") from error


@contextmanager
def serve_storage(storage: BaseStorage, meeting_point: MeetingPoint) -> Iterator[Access]:
    """Serve a storage during the block, and yield the access to it.

    Parameters
    ----------
    storage
        The storage to serve.
    meeting_point
        A folder that only this user may enter, for a Unix socket; or an address of this machine,
        for a free port.

    Raises
    ------
    EvenhandError
        If the certificate or its key cannot be read, if they do not belong together, or if the
        system does not allow a server at this address.
    """
    token = secrets.token_hex(32)
    server = grpc.server(
        ThreadPoolExecutor(max_workers=_THREADS),
        interceptors=(_TokenCheck(token),),
        options=_SERVER,
    )
    service = OptunaStorageProxyService(storage)
    api_pb2_grpc.add_StorageServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    if isinstance(meeting_point, NetworkHost):
        access = _listen_on_port(server, meeting_point, token)
    else:
        access = Access(f"unix:{quote(str(meeting_point.folder / 'study.sock'))}", token)
        _bind(access.target, server.add_insecure_port)
    server.start()
    try:
        yield access
    finally:
        server.stop(None).wait()


def _listen_on_port(server: grpc.Server, meeting_point: NetworkHost, token: str) -> Access:
    name = f"[{meeting_point.name}]" if ":" in meeting_point.name else meeting_point.name
    if meeting_point.certificate is None or meeting_point.key is None:
        port = _bind(f"{name}:0", server.add_insecure_port)
        return Access(f"{name}:{port}", token)
    key, certificate = _read_certificate(meeting_point.certificate, meeting_point.key)
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    port = _bind(f"{name}:0", server.add_secure_port, credentials)
    return Access(f"{name}:{port}", token, certificate)


def _bind(target: str, add: Callable[..., int], *credentials: grpc.ServerCredentials) -> int:
    """Listen at an address, and return the port."""
    try:
        return add(target, *credentials)
    except RuntimeError:
        raise EvenhandError(
            f"the study cannot be served to its workers at {target}: the system does not allow a "
            "server at this address. Check that it is an address of this machine (its name in the "
            "network, or Ray's --node-ip-address), or keep the study on a database server that all "
            "nodes can reach: --storage URL."
        ) from None


def _read_certificate(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Return a key and its certificate."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        return key.read_bytes(), certificate.read_bytes()
    except OSError as error:  # SSLError is a subclass
        raise EvenhandError(
            f"--tls-certificate {certificate} and --tls-key {key} cannot be used: {error}. Give "
            "PEM files of a certificate and of its key, without a password."
        ) from error


class _WithToken(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Puts the token into the metadata of each call."""

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: Any, request: Any
    ) -> Any:
        metadata = [*(details.metadata or ()), (TOKEN, self._token)]
        return continuation(_Details(details, metadata), request)


class _Details(grpc.ClientCallDetails):  # type: ignore[misc]
    """The details of a call with new metadata."""

    def __init__(self, details: Any, metadata: list[tuple[str, str]]) -> None:
        self.method, self.timeout = details.method, details.timeout
        self.metadata, self.credentials = metadata, details.credentials
        self.wait_for_ready, self.compression = details.wait_for_ready, details.compression


class _TokenCheck(grpc.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without the token, and answers errors of the storage with one line."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        token = dict(details.invocation_metadata).get(TOKEN, "")
        if not hmac.compare_digest(str(token).encode(), self._token):
            # A handler of a stream reads no message unless it iterates; `_refuse` does not.
            return grpc.stream_unary_rpc_method_handler(_refuse)
        handler = continuation(details)
        if handler is None:
            return None
        return grpc.unary_unary_rpc_method_handler(
            _with_reason(handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _refuse(requests: Any, context: Any) -> None:
    context.abort(grpc.StatusCode.UNAUTHENTICATED, "this study is served to its own workers only")


def _with_reason(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a handler that aborts the call with one line if the storage raises an error."""

    def handle(request: Any, context: Any) -> Any:
        try:
            return handler(request, context)
        except (StorageInternalError, SQLAlchemyError) as error:
            context.abort(grpc.StatusCode.INTERNAL, reason_of(error))

    return handle


def reason_of(error: BaseException) -> str:
    """Return the first line of a database's error, without the text of SQLAlchemy and Optuna."""
    if isinstance(error, grpc.RpcError):
        return str(error.details() or error.code())
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    source = getattr(cause, "orig", None) or cause or error
    return (str(source).strip().splitlines() or [type(source).__name__])[0]
