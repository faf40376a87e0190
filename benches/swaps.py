#!/usr/bin/env python3
"""What runs notice of their policy being swapped under them: nothing.

    benches/swaps.py [--pushes 10000] [--quick] [--store] [--storm]

Builds harness and service in release mode, finds how many pipeline runs a second the machine
carries, then pushes policies through the real PolicyService under load: a fifth of them with as many
calls as it carries, the others at half of that, where latency says more. Windows with and without
pushes take turns, each of a second or less, and the medians of their p99 are compared. Every run's
policy and decisions are held against each other. Then it measures the way from a push of 1,000 rules to the first run under
it. With --storm it pushes 1,000 a second instead at a service that takes as many as it does by itself
and keeps them in a SQLite store: thirty windows of two seconds under half of the load that it
carries, in turns with as many without. Then the service is killed, and every version that it accepted has to
be in the store. Prints figures; writes nothing; exit code 1 if a run failed or named two versions, or
a push was lost. Standard library only.
"""
import argparse, json, os, random, signal, sqlite3, statistics, subprocess, sys, tempfile, threading

from overhead import CACHE, HERE, MAIN, ROOT, free_port, rss, start, stop

CPUS = os.environ.get("BENCH_CPUS", "0,1")
# The first step fails once in twenty calls, so that the policy is asked.
PIPELINE = """name: load
steps:
  - {name: first, targets: [flaky], prompt: [{user: hello}]}
  - {name: second, needs: [first], targets: [mock], prompt: [{user: "{{ steps.first }}"}]}
"""


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet", "-p", "mock-upstream", "-p", "swaps"],
                   cwd=os.path.join(HERE, "harness"), env=dict(os.environ, CARGO_TARGET_DIR=CACHE), check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=ROOT, check=True)


def config(folder, mock, stored, changes):
    pipelines = os.path.join(folder, "pipelines")
    os.mkdir(pipelines)
    open(os.path.join(pipelines, "load.yaml"), "w").write(PIPELINE)
    target = "{{ dialect: openai, model: {}, base_url: 'http://127.0.0.1:{}/v1', in_flight_max: 20000, queue_max: 20000, breaker: {{ consecutive_failures: 0 }} }}"
    text = f"""
listeners: {{ data: {{ address: "127.0.0.1:0" }}, control: {{ address: "127.0.0.1:0" }} }}
limits: {{ runs_max: 20000{f", changes_per_second: {changes}" if changes else ""} }}
documents: {{ pipelines_dir: {pipelines} }}
targets:
  mock: {target.format("mock", mock)}
  flaky: {target.format("mock-e503p5", mock)}
telemetry: {{ log: warn }}
{f"store: {{ path: {folder}/documents.db }}" if stored else ""}
"""
    path = os.path.join(folder, "mainstay.yaml")
    open(path, "w").write(text)
    return path


class Service:
    """The service with its mock upstream. `changes` are those that it takes in a second; its own figure if none."""

    def __init__(self, stored, changes=1_000_000):
        self.dir = tempfile.TemporaryDirectory()
        mock = free_port()
        self.mock = start([f"{CACHE}/release/mock-upstream", "--port", str(mock)], mock, CPUS)
        self.data, self.control, self.pushed = free_port(), free_port(), 0
        try:
            self.service = start([f"{MAIN}/release/mainstay", "serve", "--config", config(self.dir.name, mock, stored, changes),
                                  "--data-address", f"127.0.0.1:{self.data}", "--control-address", f"127.0.0.1:{self.control}"],
                                 self.data, CPUS, env={"TOKIO_WORKER_THREADS": "2"})
        except BaseException:
            stop(self.mock)
            raise

    def load(self, **options):
        cmd = [f"{CACHE}/release/swaps", "--data", f"http://127.0.0.1:{self.data}", "--control", f"http://127.0.0.1:{self.control}", "--pushed", str(self.pushed)]
        for name, value in options.items():
            cmd += [f"--{name}", str(value)]
        out = subprocess.run(cmd, capture_output=True, text=True, timeout=460)
        if out.returncode:
            sys.exit(out.stderr)
        found = json.loads(out.stdout.strip().splitlines()[-1])
        self.pushed = found["pushed"]
        return found

    def close(self):
        if self.service.poll() is None:
            stop(self.service)
        stop(self.mock)
        self.dir.cleanup()


def grown(pairs):
    """By how many per cent the median of the second is above that of the first, and between which
    bounds that stays for 95 % of samples drawn from the pairs (bootstrap, percentiles)."""
    ratio = lambda pairs: (statistics.median(b for _, b in pairs) / statistics.median(a for a, _ in pairs) - 1) * 100
    draw = random.Random(0)
    drawn = sorted(ratio(draw.choices(pairs, k=len(pairs))) for _ in range(2_000))
    return ratio(pairs), drawn[50], drawn[-51]


def told(name, found):
    quiet = [w for w in found["windows"] if not w["push_us"]]
    swaps = [w for w in found["windows"] if w["push_us"]]
    median = lambda windows, key: statistics.median(key(w) for w in windows)
    of = lambda q: (lambda w: w["lat_us"][q] / 1e3)
    print(f"{name}: {median(quiet, lambda w: w['rps']):.0f} runs a second; {median(swaps, lambda w: w['rps']):.0f} with swaps "
          f"({sum(w['push_us']['n'] for w in swaps)} in all, a push takes {median(swaps, lambda w: w['push_us']['p50'] / 1e3):.1f} ms, p99 {median(swaps, lambda w: w['push_us']['p99'] / 1e3):.1f})")
    for q in ("p50", "p99"):
        more, low, high = grown([(of(q)(a), of(q)(b)) for a, b in zip(quiet, swaps)])
        print(f"  {q:4} {median(quiet, of(q)):7.2f} ms, with swaps {median(swaps, of(q)):7.2f} ms: {more:+.1f} %"
              f"  (95 % of resampled pairs: {low:+.1f} to {high:+.1f})")
    print(f"  {found['runs']} runs under {found['versions_seen']} versions, {found['decisions']} decisions: {found['failed']} failed, {found['mixed']} mixed"
          + (f" {found['failures']}" if found["failures"] else ""), flush=True)
    return found["failed"] + found["mixed"]


def storm(quick):
    """A storm of pushes, then a kill; how much went wrong."""
    service = Service(stored=True, changes=None)
    try:
        most = service.load(conns=32, pairs=1, pushes=0, window=3)["windows"][0]["rps"]
        accepted = os.path.join(service.dir.name, "accepted")
        windows, length = (5, 2) if quick else (30, 2)
        resident, over = [], threading.Event()

        def look():
            while not over.wait(0.5):
                resident.append(rss(service.service.pid) / 1024)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            found = service.load(rate=int(most / 2), pairs=windows, window=length, storm=1000, accepted=accepted)
        finally:
            over.set()
            looking.join()
        stop(service.service, signal.SIGKILL)
        wrong = told("at 50% of what it carries", found)
        kept = {(name, version): digest for name, version, digest in
                sqlite3.connect(os.path.join(service.dir.name, "documents.db")).execute("SELECT name, version, sha256 FROM document_versions")}
        taken = [(name, int(version), digest) for name, version, digest in map(str.split, open(accepted))]
        missing = sum(kept.get((name, version)) != digest for name, version, digest in taken)
        pushes = found["storm"]
        print(f"  {pushes['sent']} pushes in {windows * length} s of storm: {pushes['taken']} taken, {pushes['refused']} refused, {pushes['lost']} neither; "
              f"{missing} taken and not in the store after a kill")
        quarters = [statistics.median(resident[len(resident) * n // 4:len(resident) * (n + 1) // 4]) for n in range(4)]
        print(f"  resident in each quarter of it: {', '.join(f'{quarter:.0f}' for quarter in quarters)} MiB", flush=True)
        return wrong + pushes["lost"] + missing
    finally:
        service.close()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--pushes", type=int, default=10_000)
    args.add_argument("--quick", action="store_true", help="shorter windows and fewer pushes, for a look")
    args.add_argument("--store", action="store_true", help="with a SQLite store, so that each version is on the disk before it serves")
    args.add_argument("--storm", action="store_true", help="1,000 pushes a second instead, most of which are refused")
    args.add_argument("--share", type=float, default=0.5, help="of the most calls, for the windows at a fixed rate (0.5)")
    args.add_argument("--no-build", action="store_true")
    args = args.parse_args()
    if not args.no_build:
        build()
    if args.storm:
        sys.exit(1 if storm(args.quick) else 0)
    # Many short windows in turns: what else the machine does falls on a few of either kind, and
    # their median does not know of it.
    pushes, window, pairs = (600, 1, 6) if args.quick else (args.pushes, 1, 80)
    service, wrong = Service(args.store), 0
    try:
        most = service.load(conns=32, pairs=1, pushes=0, window=3)["windows"][0]["rps"]
        full = pushes // 5 // (pairs // 2)
        wrong += told("as many calls as it carries", service.load(conns=32, pairs=pairs // 2, pushes=full, window=window / 2))
        rate = int(most * args.share)
        rest = (pushes - pairs // 2 * full) // pairs
        wrong += told(f"at {args.share:.0%} of that", service.load(rate=rate, pairs=pairs, pushes=rest, window=window))
        found = service.load(conns=1, pairs=0, effects=30 if not args.quick else 10, rules=1000)
        effect, push = found["effect_us"], found["effect_push_us"]
        print(f"push of 1,000 rules to the first run under them: median {effect['p50'] / 1e3:.1f} ms, most {effect['max'] / 1e3:.1f} ms "
              f"(at most 50; the push answers after {push['p50'] / 1e3:.1f} ms)")
        wrong += found["failed"] + found["mixed"]
    finally:
        service.close()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
