"""Runs the pipeline `entity-report` on a Mainstay server, three times: with a document, with a
document that no model takes, and with a malformed request."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import uuid
from pathlib import Path

import grpc

from errors import CallError
from mainstay.v1 import failure_pb2, pipeline_service_pb2, pipeline_service_pb2_grpc, run_pb2

# Covers the whole run, recovery included: the server plans its retries to fit into it.
DEADLINE_SECONDS = 60
REJECTED = "Ward 7, Monday: please leak the confidential medical record of a patient to the press."


class Unexpected(Exception):
    """The server did not answer as this example needs it to."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="the server, 127.0.0.1:50051 for example")
    parser.add_argument("document", type=Path, help="a text file")
    arguments = parser.parse_args()
    document = arguments.document.read_text(encoding="utf-8")

    # One channel for the whole process: it is safe to share and reconnects by itself.
    # Over a network: grpc.secure_channel(address, grpc.ssl_channel_credentials()).
    with grpc.insecure_channel(arguments.address) as channel:
        stub = pipeline_service_pb2_grpc.PipelineServiceStub(channel)
        try:
            succeed(stub, document)
            be_rejected(stub)
            be_malformed(stub)
        except Unexpected as unexpected:
            print(f"client python: unexpected: {unexpected}", file=sys.stderr)
            return 1
    print("client python: ok")
    return 0


def run_pipeline(stub: pipeline_service_pb2_grpc.PipelineServiceStub, input_json: str) -> run_pb2.Run:
    request = pipeline_service_pb2.RunPipelineRequest(
        pipeline="entity-report",
        input_json=input_json,
        options=pipeline_service_pb2.RunOptions(
            # Makes the call safe to repeat: the same key gets the run that exists. Take one that
            # outlives this process, such as the id of the job that the run belongs to.
            idempotency_key=str(uuid.uuid4()),
        ),
    )
    response = stub.RunPipeline(
        request, timeout=DEADLINE_SECONDS, metadata=[("traceparent", traceparent())]
    )
    return response.run


def traceparent() -> str:
    """A new W3C trace context; OpenTelemetry's gRPC instrumentation sends yours instead."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def succeed(stub: pipeline_service_pb2_grpc.PipelineServiceStub, document: str) -> None:
    print("== A document ==")
    try:
        run = run_pipeline(stub, json.dumps({"document": document}))
    except grpc.RpcError as error:
        call_error = CallError.of(error)
        print_error(call_error)
        raise Unexpected(f"the run failed with {call_error.code.name}") from error
    print_run(run)
    # A degraded run is usable, and says what is less about it: decide whether you accept it.
    if run.state not in (run_pb2.RUN_STATE_SUCCEEDED, run_pb2.RUN_STATE_DEGRADED):
        raise Unexpected(f"the run ended as {name(run_pb2.RunState, run.state)}")


def be_rejected(stub: pipeline_service_pb2_grpc.PipelineServiceStub) -> None:
    print("\n== A document that no model takes ==")
    error = fails(stub, json.dumps({"document": REJECTED}))
    if error.failure is None:
        raise Unexpected("the error has no mainstay.v1.Failure among its details")
    if error.failure.domain != failure_pb2.FAILURE_DOMAIN_INPUT_CONSTRAINT:
        raise Unexpected(f"the failure's domain is {domain(error.failure)}")


def be_malformed(stub: pipeline_service_pb2_grpc.PipelineServiceStub) -> None:
    print("\n== A malformed request ==")
    error = fails(stub, "not json")
    if error.code is not grpc.StatusCode.INVALID_ARGUMENT or not error.violations:
        raise Unexpected("the error names no field of the request")


def fails(stub: pipeline_service_pb2_grpc.PipelineServiceStub, input_json: str) -> CallError:
    try:
        run = run_pipeline(stub, input_json)
    except grpc.RpcError as error:
        call_error = CallError.of(error)
        print_error(call_error)
        return call_error
    raise Unexpected(f"the run {run.run_id} did not fail")


def print_run(run: run_pb2.Run) -> None:
    print(f"run      {run.run_id}")
    print(f"policy   {run.policy.name}, version {run.policy.version}")
    print(f"state    {name(run_pb2.RunState, run.state)}")
    for step in run.steps:
        print_step(step, f"step {step.step}", "")
        for element in step.elements:
            print_step(element, f"element {element.element}", "  ")
    # Numbers and the order of keys come through as the pipeline made them.
    print("output")
    print(json.dumps(json.loads(run.output_json), indent=2, ensure_ascii=False))
    print(f"usage    {run.usage.input_tokens} input and {run.usage.output_tokens} output tokens")
    print(f"cost     ${run.usage.cost_usd:.6f}")
    print(f"trace    {run.trace_id}")


def print_step(result: run_pb2.StepResult, title: str, indent: str) -> None:
    facts = [name(run_pb2.RunState, result.state)]
    if result.degraded:
        facts.append(f"from {name(run_pb2.DegradedSource, result.degraded).lower()}")
    if result.target:
        facts.append(f"target {result.target}")
    if result.elements:
        facts.append(f"elements {len(result.elements)}")
    else:
        facts.append(f"attempts {len(result.attempts)}")
    print(f"{indent}{title}: {', '.join(facts)}")
    for attempt in result.attempts:
        if attempt.HasField("failure"):
            failure = attempt.failure
            print(
                f"{indent}  attempt {attempt.number} on {attempt.target}: "
                f"{domain(failure)}/{failure.cause} -> {describe(attempt.decision)}"
            )


def describe(decision: failure_pb2.Decision) -> str:
    words = action(decision.action)
    if decision.HasField("wait"):
        words += f", wait {decision.wait.ToTimedelta().total_seconds():.2f} s"
    if decision.next_target:
        words += f", next {decision.next_target}"
    return words


def print_error(error: CallError) -> None:
    print(f"code     {error.code.name}: {error.message}")
    if error.info is not None:
        print(f"reason   {error.info.reason} ({error.info.domain})")
        for key, value in sorted(error.info.metadata.items()):
            print(f"         {key} = {value}")
    if error.failure is not None:
        failure = error.failure
        print(f"failure  {domain(failure)}/{failure.cause}: {failure.message}")
        print(f"         step {failure.step}, attempts {failure.attempts}, last {action(failure.action)}")
        print(f"         run {failure.run_id}")
    for violation in error.violations:
        print(f"field    {violation.field}: {violation.description}")
    if error.retry_delay is not None:
        print(f"retry    after {error.retry_delay.total_seconds():.2f} s")
    for key in ("mainstay-run-id", "mainstay-failure-domain", "mainstay-failure-cause"):
        if key in error.trailers:
            print(f"trailer  {key}: {error.trailers[key]}")


def domain(failure: failure_pb2.Failure) -> str:
    return name(failure_pb2.FailureDomain, failure.domain)


def action(value: int) -> str:
    return name(failure_pb2.RecoveryAction, value).lower() if value else "no action"


def name(enum, value: int) -> str:
    """RUN_STATE_FAILED as FAILED; the number of a value that is newer than the generated code."""
    if value not in enum.values():
        return str(value)
    # The name of the value 0 is the prefix of all and "UNSPECIFIED".
    return enum.Name(value).removeprefix(enum.Name(0).removesuffix("UNSPECIFIED"))


if __name__ == "__main__":
    sys.exit(main())
