#!/usr/bin/env python3
"""What watchers of policies cost the service while they read nothing.

    benches/watchers.py [--watchers 10000] [--pushes 100] [--quick]

Builds harness and service in release mode and opens that many WatchPolicies streams, once 100 on a
connection and once one on each. Not a byte is read from their sockets while policies are pushed; then
all is read, and each must come to the newest versions, none back to an older one; then all are
gone. Prints the service's resident memory at each step and what a push took; writes nothing; exit
code 1 if a figure is missed. Standard library only.
"""
import argparse, json, os, resource, subprocess, sys, tempfile, time

from overhead import CACHE, HERE, MAIN, ROOT, free_port, rss, start, stop

SERVICE_CPU, LOAD_CPU = os.environ.get("SERVICE_CPU", "1"), os.environ.get("LOAD_CPU", "0")
EACH_MAX = 64  # KiB


def build():
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked", "-p", "watchers"],
                   cwd=os.path.join(HERE, "harness"), env=dict(os.environ, CARGO_TARGET_DIR=CACHE), check=True)
    subprocess.run(["cargo", "build", "--release", "--quiet", "--locked"], cwd=ROOT, check=True)


def config(folder):
    path = os.path.join(folder, "mainstay.yaml")
    open(path, "w").write("""
listeners: { data: { address: "127.0.0.1:0" }, control: { address: "127.0.0.1:0" } }
limits: { connections_max: 20000, changes_per_second: 1000000 }
targets: { mock: { dialect: openai, model: mock, base_url: "http://127.0.0.1:9/v1" } }
telemetry: { log: warn }
""")
    return path


def calm(pid):
    """Resident memory in KiB when it has stopped to move, or after ten seconds."""
    seen, until = [rss(pid)], time.time() + 10
    while time.time() < until:
        time.sleep(0.5)
        seen.append(rss(pid))
        if len(seen) > 4 and max(seen[-4:]) - min(seen[-4:]) < 256:
            break
    return seen[-1]


def measured(connections, streams, pushes):
    """One service, its watchers, and the memory at each step."""
    folder, data, control = tempfile.TemporaryDirectory(), free_port(), free_port()
    service = start([f"{MAIN}/release/mainstay", "serve", "--config", config(folder.name), "--data-address", f"127.0.0.1:{data}",
                     "--control-address", f"127.0.0.1:{control}"], control, SERVICE_CPU)
    watchers = None
    try:
        cmd = [f"{CACHE}/release/watchers", "--control", f"127.0.0.1:{control}", "--connections", str(connections), "--streams", str(streams), "--pushes", str(pushes)]
        memory = {"before": calm(service.pid)}
        watchers = subprocess.Popen(["taskset", "-c", LOAD_CPU, *cmd], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = {}
        for step in ("open", "pushed", "read"):
            line = watchers.stdout.readline()
            if not line:
                sys.exit(f"the watchers ended before they had {step}")
            told[step], memory[step] = json.loads(line), calm(service.pid)
            watchers.stdin.write("on\n")
            watchers.stdin.flush()
        watchers.wait(60)
        memory["gone"] = calm(service.pid)
        return told, memory
    finally:
        if watchers and watchers.poll() is None:
            watchers.kill()
        stop(service)
        folder.cleanup()


def report(connections, streams, pushes):
    told, memory = measured(connections, streams, pushes)
    count, before = connections * streams, memory["before"]
    each = {step: (memory[step] - before) / count for step in ("open", "pushed", "read")}
    print(f"{count} watchers, {streams} on each of {connections} connections:")
    print(f"  KiB each, service alone: {each['open']:.1f} open, {each['pushed']:.1f} after {pushes} pushes that none read (at most {EACH_MAX}), {each['read']:.1f} after all was read")
    print(f"  resident: {before / 1024:.0f} MiB before, {memory['pushed'] / 1024:.0f} after the pushes, {memory['read'] / 1024:.0f} after all was read, {memory['gone'] / 1024:.0f} when all are gone")
    print(f"  a push: median {told['pushed']['p50'] / 1e3:.1f} ms, p99 {told['pushed']['p99'] / 1e3:.1f}, most {told['pushed']['max'] / 1e3:.1f}")
    print(f"  reading: {told['read']['behind']} never came to the newest, {told['read']['messages_min']} to {told['read']['messages_max']} messages each, {told['read']['seconds']} s for all", flush=True)
    return told["read"]["behind"] > 0 or max(each.values()) > EACH_MAX


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--watchers", type=int, default=10_000)
    args.add_argument("--pushes", type=int, default=100)
    args.add_argument("--quick", action="store_true", help="a tenth of the watchers")
    args.add_argument("--no-build", action="store_true")
    args = args.parse_args()
    if not args.no_build:
        build()
    watchers = args.watchers // 10 if args.quick else args.watchers
    # Each connection is a file on either side.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    alone = min(watchers, hard - 500)
    if alone < watchers:
        print(f"this machine allows {hard} open files: {alone} watchers with a connection each")
    missed = [report(-(-watchers // 100), 100, args.pushes), report(alone, 1, args.pushes)]
    sys.exit(1 if any(missed) else 0)


if __name__ == "__main__":
    main()
