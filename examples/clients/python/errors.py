"""Reads the rich error of a failed call. Copy this file into your service."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mainstay.v1 import failure_pb2


@dataclass(frozen=True)
class CallError:
    """What a failed call says about itself. Everything but code and message may be missing."""

    code: grpc.StatusCode
    message: str
    # A stable reason to branch on: the cause of a failed run, or an error of the service itself.
    info: error_details_pb2.ErrorInfo | None = None
    # Why the run failed; None if there was no run, or the call never got to the server.
    failure: failure_pb2.Failure | None = None
    # How long to wait before the same request is worth sending again.
    retry_delay: timedelta | None = None
    # The faults of a malformed request.
    violations: list[error_details_pb2.BadRequest.FieldViolation] = field(default_factory=list)
    # mainstay-run-id and the like: plain text, for proxies and logs that read no protobuf.
    trailers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: grpc.RpcError) -> CallError:
        """Decodes `grpc-status-details-bin` and the trailers of an error raised by a stub."""
        info, failure, retry_delay, violations = None, None, None, []
        status = rpc_status.from_call(error)
        for detail in status.details if status else ():
            if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
                detail.Unpack(info := error_details_pb2.ErrorInfo())
            elif detail.Is(failure_pb2.Failure.DESCRIPTOR):
                detail.Unpack(failure := failure_pb2.Failure())
            elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
                detail.Unpack(retry := error_details_pb2.RetryInfo())
                retry_delay = retry.retry_delay.ToTimedelta()
            elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
                detail.Unpack(bad_request := error_details_pb2.BadRequest())
                violations.extend(bad_request.field_violations)
        trailers = {
            key: value
            for key, value in error.trailing_metadata() or ()
            if key.startswith("mainstay-")
        }
        return cls(
            error.code(), error.details() or "", info, failure, retry_delay, violations, trailers
        )
