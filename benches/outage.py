#!/usr/bin/env python3
"""What callers see when providers go down: the service under load, the simulated provider told to fail.

    python3 benches/outage.py [--quick] [--only NAME]... [--no-build] [--plot FILE] [--json FILE]

Builds the service and the load generator in release mode, drives the one against `mainstay simulate`
with the other, and prints figure, what is to be reached, what was seen. Ends with 1 when a figure is
missed. Writes the time series of all scenarios as JSON and a plot of the story as SVG, both under
target/ unless told otherwise. Standard library only. A whole run takes about thirteen minutes, a
quick one five, with fewer calls than the figures ask for.
"""
import argparse, hashlib, json, os, signal, statistics, sys, threading, time

import outage_plot
from outage_rig import MAIN, Rig, build, kinds, p99, quantile, ratio_of_windows, seconds_of, share_ok, within

CALM = {}
DOWN = [{"fault": "overloaded"}]
HANGS = [{"fault": "hang"}]
HALF = [{"fault": "overloaded", "probability": 0.5}]
SLOW = [{"fault": "latency", "delay": "2s"}]
LIMITED = [{"fault": "rate_limit", "retry_after": 3}]


class Report:
    def __init__(self):
        self.rows, self.series = [], {}

    def figure(self, name, aim, seen, ok):
        self.rows.append((name, aim, seen, "ok" if ok else "missed"))
        print(f"  {name}: {seen} (to reach: {aim}){'' if ok else '  MISSED'}", flush=True)

    def shown(self, name, seen):
        """A figure that has no limit of its own."""
        self.rows.append((name, "", seen, ""))
        print(f"  {name}: {seen}", flush=True)

    def note(self, text):
        print(f"  {text}", flush=True)

    def table(self):
        rows = [("figure", "to reach", "seen", ""), *self.rows]
        widths = [max(len(row[idx]) for row in rows) for idx in range(4)]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join(lines)


def percent(share, digits=2):
    return f"{share * 100:.{digits}f} %"


def ms(seconds):
    return f"{seconds * 1000:.1f} ms"


def opened(rig):
    """When the last of the breakers opened first, in seconds since the load began; none: never."""
    times = []
    for target in rig.targets().values():
        changes = [change["time"] for change in target["transitions"] if change["to"] == "open"]
        if not changes:
            return None
        times.append(min(changes))
    return max(seconds_of(moment) for moment in times) - rig.began


def outage(report, quick):
    """All targets down at once, in each of three ways."""
    calls = 2_000 if quick else 10_000
    two = {"primary": {"timeouts": {"attempt": "1s"}}, "secondary": {"timeouts": {"attempt": "1s"}}}
    for way in ("answers 503", "hangs", "refuses connections"):
        with Rig(two) as rig:
            if way == "refuses connections":
                rig.provider.stop()
            else:
                fault = DOWN if way == "answers 503" else HANGS
                rig.play(primary=fault, secondary=fault)
            samples = rig.storm({"rate": 500, "calls": calls})
            after = opened(rig)
            asked = sum(target["calls"] for target in rig.targets().values())
            if way != "refuses connections":
                asked = sum(rig.counts().values())
        name = f"total outage, the provider {way}"
        report.figure(f"{name}: provider calls per call", "≤ 1.2", f"{asked / calls:.3f}", asked / calls <= 1.2)
        once_open = within(samples, after, 1e9) if after is not None else []
        slow = p99(once_open)
        report.figure(f"{name}: p99 of the failing answer once open", "≤ 10 ms", ms(slow), slow <= 0.010)
        report.note(f"{len(samples)} calls, {asked} to the provider, open after {after or -1:.2f} s; {kinds(samples)}")


def brownout(report, quick):
    """Half of the primary's calls fail; the second target is well."""
    calls = 2_500 if quick else 10_000
    with Rig({"primary": {}, "secondary": {}}) as rig:
        rig.play(primary=HALF)
        samples = rig.storm({"rate": 250, "calls": calls})
        asked = rig.counts()
    extra = sum(asked.values()) / calls - 1
    report.figure("brown-out of the primary: success", "≥ 99.9 %", percent(share_ok(samples)), share_ok(samples) >= 0.999)
    report.figure("brown-out of the primary: extra calls", "≤ 20 %", percent(extra), extra <= 0.2)
    report.note(f"{calls} calls; provider {asked}; p99 {ms(p99(samples))}; {kinds(samples)}")


def standby(report, quick):
    """The second target was given up long ago and is well again, unasked; then half of the primary's calls fail."""
    calls, idle = (2_500, 10) if quick else (10_000, 20)
    with Rig({"primary": {}, "secondary": {}}) as rig:
        rig.storm({"rate": 80, "to": 2})
        rig.breaker("secondary", "trip")
        rig.storm({"rate": 80, "to": idle})
        rig.play(primary=HALF)
        began = rig.counts()
        samples = rig.storm({"rate": 250, "calls": calls})
        asked = {name: count - began[name] for name, count in rig.counts().items()}
    extra = sum(asked.values()) / calls - 1
    report.figure("brown-out with an idle second target: success", "≥ 99.9 %", percent(share_ok(samples)), share_ok(samples) >= 0.999)
    report.figure("brown-out with an idle second target: extra calls", "≤ 20 %", percent(extra), extra <= 0.2)
    report.note(f"{calls} calls; provider {asked}; p99 {ms(p99(samples))}; {kinds(samples)}")


def recovery(report, quick):
    """A lone target that can do 100 calls a second is offered 80, and is away for 30 s."""
    down, after = (15, 45) if quick else (30, 75)
    lone = {"primary": {"latency": {"delay": "100ms"}, "at_once": 10}}
    with Rig({"primary": {}}, models=lone) as rig:
        repaired = 5 + down
        samples = rig.storm({"rate": 80, "to": repaired + after, "deadline": 5_000},
                            at=[(5, lambda: rig.play(primary=DOWN)), (repaired, rig.play)])
        asked = rig.counts()["primary"]
    took = back_after(samples, repaired, repaired + after)
    tail = share_ok(within(samples, repaired + 60, 1e9)) if not quick else share_ok(within(samples, repaired + 30, 1e9))
    report.figure(f"after {down} s of outage at 80 % load: goodput back at 99 %", "≤ 60 s", f"{took:.1f} s", took <= 60)
    report.note(f"{percent(tail)} at the end; {asked} provider calls for {len(samples)}; {kinds(samples)}")


def back_after(samples, repaired, end):
    """Seconds from the repair until each second's goodput stays at 99 %."""
    bad = [second for second in range(int(repaired), int(end)) if share_ok(within(samples, second, second + 1)) < 0.99]
    return max(bad) + 1 - repaired if bad else 0.0


def alternate(window, pairs):
    """Windows of time in pairs, (before, during) each, with a second between for what is under way."""
    return [((2 * n * window + 1, (2 * n + 1) * window), ((2 * n + 1) * window, (2 * n + 2) * window)) for n in range(pairs)]


def hanging(report, quick):
    """One target hangs, with callers that go on asking it; others ask another."""
    window, pairs = (4, 3) if quick else (8, 5)
    windows = alternate(window, pairs)
    with Rig({"well": {}, "hangs": {}}, fallbacks=["well"]) as rig:
        at = []
        for (_, (begin, end)) in windows:
            at += [(begin, lambda: rig.play(hangs=HANGS)), (end, rig.play)]
        whole = {"to": 2 * window * pairs, "deadline": 3_000}
        samples = rig.storm({"name": "others", "targets": "well", "rate": 100, **whole},
                            {"name": "stuck", "targets": "hangs", "rate": 100, **whole}, at=at[:-1])
    worse, each = ratio_of_windows(samples, windows, "others")
    others = [s for s in samples if s.flow == "others"]
    report.figure("one target hangs: p99 of the others, during / before", "≤ 1.10", f"{worse:.3f}", worse <= 1.1)
    report.figure("one target hangs: errors of the others", "0", str(sum(s.outcome != "ok" for s in others)), share_ok(others) == 1)
    report.note("pairs in ms: " + ", ".join(f"{a * 1000:.1f} → {b * 1000:.1f}" for a, b in each))
    report.note("stuck: " + kinds([s for s in samples if s.flow == "stuck"]))


def noisy(report, quick):
    """One caller sends a hundred times what its limit lets through; five others send what they always send."""
    window, pairs = (4, 3) if quick else (8, 5)
    windows = alternate(window, pairs)
    names = ["noisy", *(f"quiet{n}" for n in range(5))]
    callers = [{"name": name, "tenant": name, "roles": ["runner"], "tokens": [{"sha256": sha256(token(name))}]} for name in names]
    # Four places at 100 ms are 40 calls a second.
    with Rig({"primary": {}}, limits={"runs_per_caller_max": 4}, callers=callers) as rig:
        flows = [{"name": name, "token": token(name), "rate": 20, "to": 2 * window * pairs} for name in names[1:]]
        for (_, (begin, end)) in windows:
            flows.append({"name": "noisy", "token": token("noisy"), "rate": 4_000, "from": begin, "to": end,
                          "at_once": 40_000, "channels": 16})
        samples = rig.storm(*flows)
    quiet = [s for s in samples if s.flow != "noisy"]
    worse, each = ratio_of_windows(quiet, windows, None)
    report.figure("one caller at 100 × its limit: p99 of the others, during / before", "≤ 1.10", f"{worse:.3f}", worse <= 1.1)
    report.figure("one caller at 100 × its limit: errors of the others", "0", str(sum(s.outcome != "ok" for s in quiet)), share_ok(quiet) == 1)
    report.note("pairs in ms: " + ", ".join(f"{a * 1000:.1f} → {b * 1000:.1f}" for a, b in each))
    report.note("noisy: " + kinds([s for s in samples if s.flow == "noisy"]))


def token(name):
    return f"bench-token-of-{name}-0123456789abcdef"


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def deadlines(report, quick):
    """Calls with deadlines of 0.3 to 2 s against a provider that hangs before or in its answer, or drips."""
    calls = 500 if quick else 2_000
    faults = {"u01": HANGS, "u02": [{"fault": "hang", "at": "mid_body"}], "u03": [{"fault": "drip", "bytes_per_second": 1}]}
    with Rig({name: {"in_flight_max": 2_000} for name in faults}) as rig:
        rig.play(**faults)
        kinds_of = [("u01", "step"), ("u02", "step"), ("u02", "stream"), ("u03", "step"), ("u03", "stream")]
        samples = rig.storm(*({"name": f"{target}-{mode}", "targets": target, "mode": mode, "at_once": 200, "ramp": 1, "calls": calls,
                               "deadline": "300..2000"} for target, mode in kinds_of))
    late = [s.length - s.deadline for s in samples]
    share = sum(one <= 0.050 for one in late) / len(late)
    report.figure(f"deadlines: {len(samples):,} calls against hanging and dripping, ended by deadline + 50 ms", "≥ 99.9 %", percent(share), share >= 0.999)
    report.note(f"past the deadline: median {ms(statistics.median(late))}, p99.9 {ms(quantile(late, 0.999))}, most {ms(max(late))}; {kinds(samples)}")


class Memory:
    """The highest resident memory of a process while it is looked at."""

    def __init__(self, process):
        self.process, self.most, self.stop = process, 0.0, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.look, daemon=True)
        self.thread.start()
        return self

    def look(self):
        while not self.stop.wait(0.05):
            self.most = max(self.most, self.process.rss())

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def memory(report, quick):
    """Ten thousand steps that wait for a hanging provider; then a thousand readers that read nothing."""
    calls = 2_000 if quick else 10_000
    with Rig({"primary": {"in_flight_max": 20_000, "queue_max": 20_000}}) as rig:
        rig.play(primary=HANGS)
        idle, held = rig.service.rss(), []
        look = lambda: held.append((rig.targets()["primary"]["in_flight"], rig.counts()["primary"]))
        with Memory(rig.service) as seen:
            samples = rig.storm({"rate": 2_000, "calls": calls, "at_once": calls, "deadline": 15_000, "channels": 64},
                                at=[(calls / 2_000 + 4, look)])
    report.figure(f"{held[0][0]:,} steps in flight against a hanging provider: memory", "≤ 640 MiB", f"{seen.most:.0f} MiB", seen.most <= 640 and held[0][0] == calls)
    report.note(f"idle {idle:.0f} MiB, {(seen.most - idle) * 1024 / calls:.1f} KiB a step; the provider held {held[0][1]}; {kinds(samples)}")
    stalled(report, 200 if quick else 1_000)


# A model that writes for half a minute, ten chunks of twenty words a second; and one that writes as fast as the line takes it.
WRITES = {"latency": {"between": "100ms"}, "answers": [{"text": ("-".join(["word"] * 20) + " ") * 300}]}
FLOODS = {"faults": [{"fault": "endless", "bytes": 64 << 20}]}


def stalled(report, readers):
    for provider, model in (("a model that writes", WRITES), ("a provider that floods", FLOODS)):
        peaks, levels, held = [], [], []
        with Rig({"primary": {"in_flight_max": 2_000}}, models={"primary": model}, limits={"stream_stall": "60s"}) as rig:
            levels.append(rig.service.rss())
            for _ in range(2):
                look = lambda: held.append(rig.targets()["primary"]["in_flight"])
                with Memory(rig.service) as seen:
                    flow = {"mode": "stall", "rate": readers / 10, "calls": readers, "at_once": readers, "hold": 15, "deadline": 60_000, "channels": 10}
                    samples = rig.storm(flow, at=[(12, look)])
                peaks.append(seen.most)
                time.sleep(3)
                levels.append(rig.service.rss())
            left = rig.targets()["primary"]["in_flight"]
        name, again = f"{min(held):,} stalled readers of {provider}: memory", f"{provider}: second peak against the first"
        report.figure(name, "≤ 300 MiB", f"{max(peaks):.0f} MiB", max(peaks) <= 300 and min(held) == readers)
        report.figure(again, "≤ 1.05", f"{peaks[1] / peaks[0]:.3f}", peaks[1] <= 1.05 * peaks[0] and left == 0)
        report.note("MiB: " + f"idle {levels[0]:.0f}, peaks {peaks[0]:.0f} and {peaks[1]:.0f}, after {levels[1]:.0f} and {levels[2]:.0f}; {left} left in flight; {kinds(samples)}")


def story(report, quick):
    """Two targets that can do 200 calls a second each, 80 a second offered, through everything."""
    unit = 0.5 if quick else 1.0
    # A tenth of a second is usual: what takes two is given up, and a second is called slow. A minute
    # after the outage no breaker is open for its time any more, though one may be for want of calls.
    patient = {"timeouts": {"attempt": "2s"}, "breaker": {"slow_call": "1s", "slow_call_rate": 0.5}}
    each = {"latency": {"delay": "90ms..110ms"}, "at_once": 20}
    parts = [("calm", 10, {}), ("all targets down", 30, {"primary": DOWN, "secondary": DOWN}), ("repaired", 60, {}),
             ("brown-out of the primary", 25, {"primary": HALF}), ("calm", 20, {}), ("primary 20 × slower", 20, {"primary": SLOW}),
             ("calm", 20, {}), ("429s from the primary", 20, {"primary": LIMITED}), ("calm", 15, {})]
    spans, at, marks, begin = [], [], [], 0.0
    with Rig({"primary": patient, "secondary": patient}, models={"primary": each, "secondary": each}) as rig:
        for name, length, faults in parts:
            spans.append((name, begin, begin + length * unit))
            at.append((begin, lambda faults=faults: (rig.play(**faults), marks.append(rig.counts()))))
            begin += length * unit
        stop = threading.Event()
        threads = rig.watch(stop)
        samples = rig.storm({"rate": 80, "to": begin, "deadline": 5_000}, at=at)
        marks.append(rig.counts())
        stop.set()
        for thread in threads:
            thread.join(3)
        began, series, seen = rig.began, rig.series, rig.seen
    told = [Part(span, marks[n], marks[n + 1], samples) for n, span in enumerate(spans)]
    story_figures(report, told, samples, unit)
    report.series["story"] = outage_plot.time_series(samples, series, seen, began, spans)


class Part:
    """A part of the story: its goodput and what the provider was asked in it."""

    def __init__(self, span, before, after, samples):
        self.name, self.start, self.end = span
        self.samples = within(samples, self.start, self.end)
        self.asked = {name: after[name] - before[name] for name in after}
        self.ratio = sum(self.asked.values()) / max(1, len(self.samples))
        self.good = share_ok(self.samples)


def story_figures(report, told, samples, unit):
    for part in told:
        report.note(f"{part.name}: {percent(part.good)} ok, {part.ratio:.2f} provider calls per call {part.asked}, p99 {ms(p99(part.samples))}; {kinds(part.samples)}")
    down, after = told[1], told[2]
    report.figure("story, all down: provider calls per call", "≤ 1.2", f"{down.ratio:.3f}", down.ratio <= 1.2)
    took = back_after(samples, down.end, after.end)
    report.figure(f"story, after {down.end - down.start:.0f} s all down: goodput back at 99 %", "≤ 60 s", f"{took:.1f} s", took <= 60)
    for part, name in ((told[3], "brown-out"), (told[5], "latency spike"), (told[7], "429 storm")):
        report.figure(f"story, {name}: success", "≥ 99.9 %", percent(part.good), part.good >= 0.999)
        report.figure(f"story, {name}: provider calls per call", "≤ 1.2", f"{part.ratio:.3f}", part.ratio <= 1.2)


SCENARIOS = {one.__name__: one for one in (outage, brownout, standby, recovery, hanging, noisy, deadlines, memory, story)}


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--quick", action="store_true", help="fewer calls and shorter windows than the figures ask for")
    a.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=f"only this scenario, repeatable: {', '.join(SCENARIOS)}")
    a.add_argument("--no-build", action="store_true")
    a.add_argument("--plot", default=os.path.join(MAIN, "outage.svg"), help="where the plot of the story goes")
    a.add_argument("--json", default=os.path.join(MAIN, "outage.json"), help="where figures and time series go")
    args = a.parse_args()
    if not args.no_build:
        build()
    # Whoever ends this ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = Report()
    for name in args.only or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].__doc__}", flush=True)
        SCENARIOS[name](report, args.quick)
    with open(args.json, "w") as file:
        json.dump({"figures": [dict(zip(("figure", "to_reach", "seen", "verdict"), row)) for row in report.rows], "series": report.series}, file)
    if "story" in report.series:
        with open(args.plot, "w") as file:
            file.write(outage_plot.draw(report.series["story"]))
        print(f"plot: {args.plot}")
    print(report.table())
    sys.exit(any(row[3] == "missed" for row in report.rows))


if __name__ == "__main__":
    main()
