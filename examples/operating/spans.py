"""Counts the spans in a Jaeger by kind and policy version; fails if one names no version.

usage: spans.py JAEGER_QUERY
"""

import collections
import json
import sys
import urllib.parse
import urllib.request


def main(query: str) -> None:
    asked = urllib.parse.urlencode({"service": "mainstay", "limit": 20000, "lookback": "1h"})
    with urllib.request.urlopen(f"{query}/api/traces?{asked}", timeout=60) as answer:
        traces = json.load(answer)["data"]
    counts: collections.Counter = collections.Counter()
    without = 0
    for trace in traces:
        versions = set()
        for span in trace["spans"]:
            tags = {tag["key"]: tag["value"] for tag in span["tags"]}
            name, version = tags.get("mainstay.policy.name"), tags.get("mainstay.policy.version")
            if version is None:
                without += 1
                continue
            versions.add(version)
            kind = span["operationName"].split()[0]
            counts[f"{name} version {version}", kind] += 1
        if len(versions) > 1:
            sys.exit(f"trace {trace['traceID']} names the versions {versions}")
    for (version, kind), count in sorted(counts.items()):
        print(f"{version}: {count} spans of {kind}")
    if without:
        sys.exit(f"{without} spans name no version")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: spans.py JAEGER_QUERY")
    main(sys.argv[1])
