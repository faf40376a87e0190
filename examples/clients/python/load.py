"""Runs a pipeline over and over until it is interrupted, then tells how its runs ended.

usage: load.py ADDRESS PIPELINE POLICY RUNS_PER_SECOND
"""

import collections
import json
import random
import signal
import sys
import threading
import time

import grpc
from grpc_status import rpc_status
from mainstay.v1 import failure_pb2, pipeline_service_pb2, pipeline_service_pb2_grpc, run_pb2

DEADLINE_SECONDS = 20

# Runs by the version of the policy that they name, and how they ended.
counts: collections.Counter = collections.Counter()


def main(address: str, pipeline: str, policy: str, per_second: float) -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with grpc.insecure_channel(address) as channel:
        service = pipeline_service_pb2_grpc.PipelineServiceStub(channel)
        due, under_way = time.monotonic(), set()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / per_second
            request = pipeline_service_pb2.RunPipelineRequest(
                pipeline=pipeline,
                input_json=json.dumps({"text": f"Order {random.random()} was charged twice."}),
                options=pipeline_service_pb2.RunOptions(policy=policy),
            )
            call = service.RunPipeline.future(request, timeout=DEADLINE_SECONDS)
            under_way.add(call)
            under_way = {call for call in under_way if not settled(call)}
        while under_way:
            under_way = {call for call in under_way if not settled(call)}
            time.sleep(0.05)
    for (version, state), count in sorted(counts.items()):
        print(f"version {version}: {count} runs {state}")


def settled(call: grpc.Future) -> bool:
    if not call.done():
        return False
    error = call.exception()
    if error is None:
        run = call.result().run
        state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        counts[run.policy.version, state] += 1
    else:
        counts[policy_version(error), f"failed ({error.code().name})"] += 1
    return True


def policy_version(error: grpc.RpcError) -> int:
    """The version that a failed run names; 0 where the call failed otherwise."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        failure = failure_pb2.Failure()
        if detail.Unpack(failure):
            return failure.policy_version
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: load.py ADDRESS PIPELINE POLICY RUNS_PER_SECOND")
    main(*sys.argv[1:4], float(sys.argv[4]))
