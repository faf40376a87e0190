"""What a scenario needs: a simulated provider, a service before it, callers, and what they saw."""
import collections, datetime, json, math, os, signal, socket, statistics, subprocess, sys, tempfile, threading, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
HARNESS = os.environ.get("MAINSTAY_BENCH_TARGET", os.path.join(HERE, "harness", "target"))
MAIN = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
MAINSTAY = os.path.join(MAIN, "release", "mainstay")
STORM = os.path.join(HARNESS, "release", "storm")
# The service has one core of its own; provider and callers share the other, so that they cannot slow it down.
SERVICE_CPU, LOAD_CPU = os.environ.get("SERVICE_CPU", "1"), os.environ.get("LOAD_CPU", "0")

Sample = collections.namedtuple("Sample", "flow start length deadline outcome")  # seconds


def build():
    env = dict(os.environ, CARGO_TARGET_DIR=HARNESS)
    harness = os.path.join(HERE, "harness")
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "loadgen", "--bin", "storm"], cwd=harness, env=env, check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "--bin", "mainstay"], cwd=ROOT, check=True)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def quantile(values, share):
    """The smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)] if ordered else float("nan")


def seconds_of(moment):
    """Seconds since 1970 of a time as the service writes it."""
    head, _, fraction = moment.rstrip("Z").partition(".")
    return datetime.datetime.fromisoformat(head + "+00:00").timestamp() + float(f"0.{fraction or 0}")


class Process:
    """One process of the bench, on its core, with its log kept for when it fails."""

    def __init__(self, cmd, cpu, port=None, pipe=False):
        self.log = tempfile.TemporaryFile()
        out = subprocess.PIPE if pipe else self.log
        self.process = subprocess.Popen(["taskset", "-c", cpu, *cmd], stdout=out, stderr=self.log, text=pipe or None,
                                        env=dict(os.environ, TOKIO_WORKER_THREADS="1"))
        self.pid, self.out = self.process.pid, self.process.stdout
        if port:
            self.wait_port(port)

    def wait_port(self, port):
        until = time.time() + 20
        while time.time() < until and self.process.poll() is None:
            try:
                return socket.create_connection(("127.0.0.1", port), 0.2).close()
            except OSError:
                time.sleep(0.005)
        self.log.seek(0)
        sys.exit(f"nothing serves port {port}:\n{self.log.read().decode()[-2000:]}")

    def rss(self):
        """Resident memory in MiB."""
        return int(open(f"/proc/{self.pid}/statm").read().split()[1]) * 4 / 1024

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


class Rig:
    """A provider and a service. `targets` are the targets' own settings; each is a model of its name."""

    def __init__(self, targets, models=None, limits=None, callers=None, fallbacks=None):
        self.dir = tempfile.TemporaryDirectory()
        self.provider_port, self.port, self.control = free_port(), free_port(), free_port()
        self.models = {name: {"latency": {"delay": "100ms"}} for name in targets} | (models or {})
        self.processes, self.series, self.seen = [], [], []
        script = self.write("script.json", self.script({}))
        self.provider = self.start([MAINSTAY, "simulate", script, "--address", f"127.0.0.1:{self.provider_port}"], LOAD_CPU, self.provider_port)
        base = f"http://127.0.0.1:{self.provider_port}/v1"
        config = {
            "listeners": {"data": {"address": f"127.0.0.1:{self.port}"}, "control": {"address": f"127.0.0.1:{self.control}"}},
            "targets": {name: {"dialect": "openai", "model": name, "base_url": base, **own} for name, own in targets.items()},
            "default_targets": fallbacks or list(targets),
            "limits": {"runs_max": 20_000, **(limits or {})},
            "telemetry": {"log": "warn"},
        }
        self.token = []
        if callers:
            self.write("callers.json", {"callers": callers})
            config["auth"] = {"callers_file": "callers.json"}
        path = self.write("mainstay.json", config)
        self.service = self.start([MAINSTAY, "serve", "--config", path], SERVICE_CPU, self.port)

    def write(self, name, value):
        path = os.path.join(self.dir.name, name)
        with open(path, "w") as file:
            json.dump(value, file)
        return path

    def start(self, *args, **kwargs):
        process = Process(*args, **kwargs)
        self.processes.append(process)
        return process

    def script(self, faults):
        models = {name: model | ({"faults": faults[name]} if name in faults else {}) for name, model in self.models.items()}
        return {"seed": 1, "limits": {"connections": 30_000, "connection_seconds": 3_600}, "models": models}

    def play(self, **faults):
        """From now on the provider has these faults, by model, and no others."""
        self.ask("/_sim/script", json.dumps(self.script(faults)).encode())

    def ask(self, path, body=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.provider_port}{path}", data=body, timeout=20) as answer:
            return answer.read()

    def counts(self):
        """Calls that the provider was asked so far, by model."""
        models = json.loads(self.ask("/_sim/calls?recent=0"))["models"]
        return {name: models.get(name, {}).get("calls", 0) for name in self.models}

    def targets(self):
        out = subprocess.run([MAINSTAY, "targets", "--json", "--address", f"127.0.0.1:{self.control}"], capture_output=True, text=True, check=True)
        return {target["name"]: target for target in json.loads(out.stdout)["targets"]}

    def breaker(self, target, to):
        """Says this of a target's breaker, as an operator would."""
        subprocess.run([MAINSTAY, "breaker", target, to, "--address", f"127.0.0.1:{self.control}"], capture_output=True, check=True)

    def storm(self, *flows, at=()):
        """Runs flows of calls to their end and returns the samples. `at`: (seconds, what to do then), in order."""
        out = os.path.join(self.dir.name, "samples.txt")
        cmd = [STORM, "--address", f"127.0.0.1:{self.port}", "--out", out]
        for flow in flows:
            cmd += ["--flow", ",".join(f"{key}={value}" for key, value in flow.items())]
        process = self.start(cmd, LOAD_CPU, pipe=True)
        began = self.began = int(process.out.readline().split()[1]) / 1e6
        for moment, action in at:
            time.sleep(max(0.0, began + moment - time.time()))
            action()
        if process.process.wait():
            process.log.seek(0)
            sys.exit(f"the load generator failed:\n{process.log.read().decode()[-2000:]}")
        samples = []
        with open(out) as lines:
            next(lines)
            for line in lines:
                flow, start, length, deadline, outcome = line.split()
                samples.append(Sample(flow, int(start) / 1e6, int(length) / 1e6, int(deadline) / 1e6, outcome))
        return samples

    def watch(self, stop):
        """Until `stop` is set: the provider's counts four times a second, the targets' state as the service tells it."""
        def count():
            while not stop.wait(0.25):
                self.series.append((time.time(), self.counts()))

        def look():
            watch = self.start([MAINSTAY, "watch", "--json", "--address", f"127.0.0.1:{self.control}"], LOAD_CPU, pipe=True)
            for line in watch.out:
                self.seen.append((time.time(), {target["name"]: target for target in json.loads(line)["targets"]}))
                if stop.is_set():
                    return
        threads = [threading.Thread(target=count, daemon=True), threading.Thread(target=look, daemon=True)]
        for thread in threads:
            thread.start()
        return threads

    def close(self):
        for process in reversed(self.processes):
            process.stop(signal.SIGKILL if process is self.provider else signal.SIGTERM)
        self.dir.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def within(samples, start, end, flow=None):
    return [s for s in samples if start <= s.start < end and (flow is None or s.flow == flow)]


def share_ok(samples):
    return sum(s.outcome == "ok" for s in samples) / max(1, len(samples))


def kinds(samples):
    """How the calls ended, the most frequent first."""
    return ", ".join(f"{kind} {count}" for kind, count in collections.Counter(s.outcome for s in samples).most_common(5))


def p99(samples):
    return quantile([s.length for s in samples], 0.99)


def ratio_of_windows(samples, windows, flow):
    """The 99th percentile during against before: median over pairs of windows; and each pair's, in ms."""
    pairs = [(p99(within(samples, *before, flow)), p99(within(samples, *during, flow))) for before, during in windows]
    return statistics.median(during / before for before, during in pairs), pairs
