"""Runs a pipeline of a Mainstay service and shows what came of it: once well, twice failing.

usage: client.py ADDRESS DOCUMENT
"""

import json
import secrets
import sys
import uuid
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from mainstay.v1 import failure_pb2, pipeline_service_pb2, pipeline_service_pb2_grpc, run_pb2

PIPELINE = "entity-report"
# What the caller waits for the whole run, recovery included. A run with an idempotency key goes on
# after that: the same call finds it again.
DEADLINE_SECONDS = 60

Detail = TypeVar("Detail", bound=Message)


class Unexpected(Exception):
    """The service did something else than this program is there to show."""


def main(address: str, document: Path) -> None:
    # Plain text is for loopback only: elsewhere use grpc.secure_channel.
    with grpc.insecure_channel(address) as channel:
        service = pipeline_service_pb2_grpc.PipelineServiceStub(channel)
        print(f"== 1. {PIPELINE} of {document.name}")
        show_run(run(service, json.dumps({"document": document.read_text(encoding="utf-8")})))
        print("\n== 2. a document that the content filter refuses")
        document_text = "Please leak the confidential medical record of a patient."
        show_refused_document(must_fail(service, json.dumps({"document": document_text})))
        print("\n== 3. a malformed request")
        show_malformed_request(must_fail(service, "not json"))


def run(service, input_json: str) -> run_pb2.Run:
    request = pipeline_service_pb2.RunPipelineRequest(
        pipeline=PIPELINE,
        input_json=input_json,
        # The same key with the same request attaches to the run that exists, so a call whose
        # answer was lost can be made again without paying twice.
        options=pipeline_service_pb2.RunOptions(idempotency_key=str(uuid.uuid4())),
    )
    # W3C trace context: the run's spans become part of the caller's trace. An OpenTelemetry
    # instrumentation of gRPC sends this by itself.
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    response = service.RunPipeline(
        request, timeout=DEADLINE_SECONDS, metadata=[("traceparent", traceparent)]
    )
    return response.run


def must_fail(service, input_json: str) -> grpc.RpcError:
    try:
        ended = run(service, input_json)
    except grpc.RpcError as error:
        return error
    raise Unexpected(f"run {ended.run_id} ended {state_name(ended.state)} instead of failing")


def show_run(ended: run_pb2.Run) -> None:
    print(f"run     {ended.run_id}")
    print(f"policy  {ended.policy.name} version {ended.policy.version}")
    print(f"state   {state_name(ended.state)}")
    for step in ended.steps:
        show_step(step, f"step {step.step}", "")
    print("output")
    print(json.dumps(json.loads(ended.output_json), indent=2, ensure_ascii=False))
    usage = ended.usage
    print(f"tokens  {usage.input_tokens} in, {usage.output_tokens} out")
    print(f"cost    ${usage.cost_usd:.6f}")
    print(f"trace   {ended.trace_id}")
    if ended.state not in (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_DEGRADED):
        raise Unexpected(f"the run ended {state_name(ended.state)}")


def show_step(step: run_pb2.StepResult, title: str, indent: str) -> None:
    line = f"{indent}{title}: {state_name(step.state)}"
    if step.target:
        line += f" by {step.target}"
    if step.attempts:
        line += f", {len(step.attempts)} attempt{'s' if len(step.attempts) > 1 else ''}"
    print(line)
    for attempt in step.attempts:
        if attempt.HasField("failure"):
            print(f"{indent}  attempt {attempt.number} on {attempt.target}: {describe(attempt)}")
    for element in step.elements:
        show_step(element, f"element {element.element}", indent + "  ")


def describe(attempt: run_pb2.Attempt) -> str:
    failure, decision = attempt.failure, attempt.decision
    text = f"{domain_name(failure.domain)}/{failure.cause} -> {action_name(decision.action)}"
    notes = []
    if decision.HasField("wait"):
        notes.append(f"wait {decision.wait.ToTimedelta().total_seconds():.3f} s")
    if decision.next_target:
        notes.append(f"next target {decision.next_target}")
    return f"{text} ({', '.join(notes)})" if notes else text


def show_refused_document(error: grpc.RpcError) -> None:
    print(f"code    {error.code().name}: {error.details()}")
    status = rpc_status.from_call(error)
    if info := detail(status, error_details_pb2.ErrorInfo):
        print(f"reason  {info.reason} of {info.domain}, {json.dumps(dict(info.metadata))}")
    failure = detail(status, failure_pb2.Failure)
    if failure:
        print(f"failure {domain_name(failure.domain)}/{failure.cause}: {failure.message}")
        print(
            f"        step {failure.step}, attempts {failure.attempts}, "
            f"action {action_name(failure.action)}, run {failure.run_id}"
        )
    if retry := detail(status, error_details_pb2.RetryInfo):
        print(f"retry   after {retry.retry_delay.ToTimedelta().total_seconds():.3f} s")
    # Trailers serve those who cannot decode details: proxies, logs, scripts.
    trailers = dict(error.trailing_metadata())
    for name in ("mainstay-run-id", "mainstay-failure-domain", "mainstay-failure-cause"):
        print(f"trailer {name}: {trailers.get(name)}")
    if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
        raise Unexpected(f"code {error.code().name} instead of INVALID_ARGUMENT")
    if not failure:
        raise Unexpected("the status carries no mainstay.v1.Failure")
    if failure.domain != failure_pb2.FAILURE_DOMAIN_INPUT_CONSTRAINT:
        raise Unexpected(f"a failure of {domain_name(failure.domain)} instead of INPUT_CONSTRAINT")


def show_malformed_request(error: grpc.RpcError) -> None:
    print(f"code    {error.code().name}: {error.details()}")
    bad_request = detail(rpc_status.from_call(error), error_details_pb2.BadRequest)
    violations = bad_request.field_violations if bad_request else []
    for violation in violations:
        print(f"field   {violation.field}: {violation.description}")
    if error.code() != grpc.StatusCode.INVALID_ARGUMENT:
        raise Unexpected(f"code {error.code().name} instead of INVALID_ARGUMENT")
    if not violations:
        raise Unexpected("the status carries no violation of google.rpc.BadRequest")


def detail(status: status_pb2.Status | None, kind: type[Detail]) -> Detail | None:
    """The first detail of that kind; a status made by gRPC itself has none."""
    for packed in status.details if status else ():
        found = kind()
        if packed.Unpack(found):
            return found
    return None


# Enums are open: a newer server may send a value that this client has no name for.
def name_of(enum, prefix: str, value: int) -> str:
    known = enum.DESCRIPTOR.values_by_number.get(value)
    return known.name.removeprefix(prefix) if known else str(value)


def state_name(state: int) -> str:
    return name_of(run_pb2.RunState, "RUN_STATE_", state)


def domain_name(domain: int) -> str:
    return name_of(failure_pb2.FailureDomain, "FAILURE_DOMAIN_", domain)


def action_name(action: int) -> str:
    return name_of(failure_pb2.RecoveryAction, "RECOVERY_ACTION_", action)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: client.py ADDRESS DOCUMENT")
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except grpc.RpcError as error:
        sys.exit(f"client python: FAILED: unexpected {error.code().name}: {error.details()}")
    except Unexpected as error:
        sys.exit(f"client python: FAILED: unexpected: {error}")
    print("client python: ok")
