#!/usr/bin/env python3
"""What a call costs, beside the bare floor: a gRPC handler that makes one HTTP POST and nothing else.

    benches/overhead.py [--rounds 5] [--quick] [--instructions] [--memory]

Builds the harness (mock upstream, load generator, floor) and the service in release mode, then
measures both against the same upstream in the same run, in turns, pinned to one core, so that the
ratios mean something on a busy machine. Prints ratios; writes nothing. Standard library only.
"""
import argparse, json, os, re, signal, socket, statistics, subprocess, sys, tempfile, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CACHE = os.environ.get("MAINSTAY_BENCH_TARGET", os.path.join(HERE, "harness", "target"))
MAIN = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SERVICE_CPU, LOAD_CPU = os.environ.get("SERVICE_CPU", "1"), os.environ.get("LOAD_CPU", "0")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def build():
    env = dict(os.environ, CARGO_TARGET_DIR=CACHE)
    for extra in (["-p", "mock-upstream", "-p", "loadgen"], ["-p", "floor", "--features", "mimalloc"]):
        subprocess.run(["cargo", "build", "--release", "--quiet", *extra], cwd=os.path.join(HERE, "harness"), env=env, check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=ROOT, check=True)


def wait_port(port, process):
    until = time.time() + 20
    while time.time() < until:
        if process.poll() is not None:
            sys.exit(f"a process ended before it served (port {port})")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.005)
    sys.exit(f"nothing serves port {port}")


def start(cmd, port, cpu, env=None, prefix=()):
    full = ["taskset", "-c", cpu, *prefix, *cmd]
    log = tempfile.TemporaryFile()
    p = subprocess.Popen(full, env={**os.environ, "TOKIO_WORKER_THREADS": "1", **(env or {})}, stdout=log, stderr=log, preexec_fn=os.setpgrp)
    wait_port(port, p)
    return p


def stop(p, how=signal.SIGTERM):
    os.killpg(p.pid, how)
    try:
        p.wait(40)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()


def config(folder, mock, otlp=None, ratio=1.0):
    text = f"""
listeners: {{ data: {{ address: "127.0.0.1:0" }}, control: {{ address: "127.0.0.1:0" }} }}
limits: {{ runs_max: 20000 }}
targets:
  mock: {{ dialect: openai, model: mock, base_url: "http://127.0.0.1:{mock}/v1", in_flight_max: 20000, queue_max: 20000 }}
  slow: {{ dialect: openai, model: mock-d2000, base_url: "http://127.0.0.1:{mock}/v1", in_flight_max: 20000, queue_max: 20000 }}
telemetry: {{ log: warn, sample_ratio: {ratio}{f', otlp_endpoint: "http://127.0.0.1:{otlp}"' if otlp else ''} }}
"""
    path = os.path.join(folder, "mainstay.yaml")
    open(path, "w").write(text)
    return path


class Bench:
    def __init__(self):
        self.dir = tempfile.mkdtemp()
        self.mock_port, self.otlp_port = free_port(), free_port()
        self.mock = start([f"{CACHE}/release/mock-upstream", "--port", str(self.mock_port)], self.mock_port, LOAD_CPU)
        self.sink = start([f"{CACHE}/release/otlp-sink", "--port", str(self.otlp_port)], self.otlp_port, LOAD_CPU)

    def server(self, kind, prefix=()):
        """Starts a server; returns process and port."""
        port = free_port()
        if kind.startswith("floor"):
            otel = {"floor": "none", "floor-traced": "batch"}[kind]
            cmd = [f"{CACHE}/release/floor", "--port", str(port), "--upstream", f"http://127.0.0.1:{self.mock_port}/v1/chat/completions",
                   "--client", "reqwest", "--otel", otel, "--otlp", f"http://127.0.0.1:{self.otlp_port}", "--threads", "1"]
        else:
            otlp = None if kind == "mainstay" else self.otlp_port
            path = config(self.dir, self.mock_port, otlp, 0.0 if kind == "mainstay-unsampled" else 1.0)
            cmd = [f"{MAIN}/release/mainstay", "serve", "--config", path, "--data-address", f"127.0.0.1:{port}"]
        return start(cmd, port, SERVICE_CPU, prefix=prefix), port

    def load(self, kind, port, pid, conns, duration, model="mock", channels=4, warmup=1.5):
        cmd = ["taskset", "-c", LOAD_CPU, f"{CACHE}/release/loadgen", "--grpc", "--channels", str(channels), "--url", f"http://127.0.0.1:{port}",
               "--model", model, "--conns", str(conns), "--duration", str(duration), "--warmup", str(warmup)]
        if pid:
            cmd += ["--pid", str(pid)]
        if kind.startswith("mainstay"):
            cmd.append("--mainstay")
        out = subprocess.run(cmd, capture_output=True, text=True, timeout=300)
        if out.returncode:
            sys.exit(out.stderr)
        return json.loads(out.stdout.strip().splitlines()[-1])

    def once(self, kind, conns, duration):
        p, port = self.server(kind)
        try:
            r = self.load(kind, port, p.pid, conns, duration)
        finally:
            stop(p)
        if r["errors"]:
            print(f"  {kind}: {r['errors']} errors {r['err_kinds']}", file=sys.stderr)
        return r

    def close(self):
        stop(self.mock, signal.SIGKILL)
        stop(self.sink, signal.SIGKILL)


def in_pairs(bench, kind, rounds, conns, duration, key):
    """Medians of a kind and of its ratio to the floor, which is measured beside it each time."""
    values, ratios = [], []
    for _ in range(rounds):
        floor = key(bench.once("floor", conns, duration))
        values.append(key(bench.once(kind, conns, duration)))
        ratios.append(values[-1] / floor)
    return statistics.median(values), statistics.median(ratios)


def cpu_and_latency(bench, rounds, duration):
    print(f"CPU time of the service per call, 32 in flight (medians of {rounds} pairs with the floor):")
    for kind, most in (("mainstay", 1.5), ("mainstay-unsampled", 1.5), ("mainstay-traced", 2.0), ("floor-traced", None)):
        value, ratio = in_pairs(bench, kind, rounds, 32, duration, lambda r: r["cpu_us_per_req"])
        print(f"  {kind:20} {value:7.1f} us  {ratio:5.2f} x floor{f'  (at most {most})' if most else ''}")
    value, ratio = in_pairs(bench, "mainstay", rounds, 1, duration, lambda r: r["lat_us"]["p50"])
    print(f"median latency, 1 in flight:\n  {'mainstay':20} {value:7.1f} us  {ratio:5.2f} x floor  (at most 1.5)")


def instructions(bench):
    """Counted between two marks of one run, so that start and first calls are not among them."""
    print("user instructions per call (callgrind; at most 1.6 x floor):")
    base = None
    for kind in ("floor", "mainstay", "mainstay-unsampled", "mainstay-traced"):
        out = os.path.join(bench.dir, f"callgrind.{kind}")
        p, port = bench.server(kind, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"])
        bench.load(kind, port, None, 1, 2, warmup=0, channels=1)
        subprocess.run(["callgrind_control", "-z", str(p.pid)], check=True, capture_output=True)
        post(bench.mock_port, "/ctl/reset")
        bench.load(kind, port, None, 1, 8, warmup=0, channels=1)
        time.sleep(0.3)
        subprocess.run(["callgrind_control", "-d", str(p.pid)], check=True, capture_output=True)
        calls = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{bench.mock_port}/ctl/stats", timeout=5).read())["total"]
        stop(p)
        count = int(re.findall(r"^(?:summary|totals): (\d+)", open(f"{out}.1").read(), re.M)[-1]) / max(1, calls)
        base = base or count
        print(f"  {kind:20} {count:10,.0f}  {count / base:5.2f} x floor  ({calls} calls)")


def post(port, path):
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}"), timeout=5).read()


def rss(pid):
    return int(open(f"/proc/{pid}/statm").read().split()[1]) * 4


def memory(bench):
    took = []
    for _ in range(5):
        t = time.time()
        p, port = bench.server("mainstay")
        took.append(time.time() - t)
        time.sleep(1)
        idle = rss(p.pid)
        stop(p)
    print(f"start to serving: {statistics.median(took) * 1000:.0f} ms (under 200); idle RSS {idle / 1024:.1f} MiB (under 25)")
    p, port = bench.server("mainstay")
    before = rss(p.pid)
    r = bench.load("mainstay", port, p.pid, 5000, 6, model="slow", channels=24, warmup=3)
    stop(p)
    per = (r["rss_max_kb"] - before) / 5000
    print(f"5,000 in flight against a 2 s upstream: {r['errors']} errors, {per:.1f} KiB a call (at most 64), RSS {r['rss_max_kb'] / 1024:.0f} MiB, in flight {r['inflight_max']}")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--rounds", type=int, default=5, help="pairs of measurements for each figure")
    a.add_argument("--quick", action="store_true", help="one pair of two seconds for each figure, no instructions")
    a.add_argument("--instructions", action="store_true", help="only instructions per call (needs valgrind)")
    a.add_argument("--memory", action="store_true", help="only start, idle and memory per call")
    a.add_argument("--no-build", action="store_true")
    args = a.parse_args()
    if not args.no_build:
        build()
    bench = Bench()
    everything = not (args.instructions or args.memory)
    try:
        if everything:
            cpu_and_latency(bench, 1 if args.quick else args.rounds, 2 if args.quick else 3)
        if args.memory or everything:
            memory(bench)
        if args.instructions or (everything and not args.quick):
            instructions(bench)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
