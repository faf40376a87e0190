#!/usr/bin/env python3
"""Writes the seed corpus of a fuzz target from the cases that the tests go through. Standard library only.

  fuzz/seeds.py TARGET FOLDER      one file a seed, named by its content; what is there already stays
"""
import base64, glob, hashlib, json, os, re, struct, sys, zlib

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# As in the targets: the order of `SHAPES` in src/provider/shapes/mod.rs.
SHAPES = ["chat_completions", "messages", "generate_content", "responses", "converse", "ollama_chat",
          "text_generation"]
BYTES_MAX = 4096


def cases(kind):
    for name in ("cases", "more"):
        with open(f"{ROOT}/tests/cases/{kind}/{name}.jsonl", encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())


def dense(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def extract():
    for case in cases("outputs"):
        yield case["input"]


def repair():
    for index, case in enumerate(cases("outputs")):
        cut = case.get("finish_reason") == "length"
        yield bytes([index % 7, cut]) + case["input"].encode("utf-8", "surrogatepass")


def coerce():
    for case in cases("outputs"):
        if case["schema"] is not None:
            yield dense(case["schema"]) + "\n" + case["input"]


def aws_event(event):
    headers = b""
    for key in ("event_type", "exception_type"):
        if key in event:
            name, value = (":" + key.replace("_", "-")).encode(), event[key].encode()
            headers += bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
    payload = dense(event.get("payload", {})).encode()
    head = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = head + struct.pack(">I", zlib.crc32(head)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def streamed(item):
    data = item.get("data")
    if data is not None:
        name = f"event: {item['event']}\n" if "event" in item else ""
        return f"{name}data: {data if isinstance(data, str) else dense(data)}\n\n".encode()
    if "json_line" in item:
        return (dense(item["json_line"]) + "\n").encode()
    if "comment" in item:
        return f":{item['comment']}\n\n".encode()
    if "raw" in item:
        return item["raw"].encode()
    if "raw_b64" in item:
        return base64.b64decode(item["raw_b64"])
    if "aws_event" in item:
        return aws_event(item["aws_event"])
    return b""


def events():
    for index, case in enumerate(cases("failures")):
        shape = SHAPES.index(case["api"]) if case["api"] in SHAPES else 0
        body = case.get("body")
        text = body if isinstance(body, str) else dense(body)
        stream = b"".join(streamed(item) for item in case.get("stream") or [])
        if stream or body is not None:
            yield bytes([shape, 0, index % 256]) + (stream or text.encode("utf-8", "surrogatepass"))


def documents():
    for folder in ("config", "examples"):
        for path in sorted(glob.glob(f"{ROOT}/{folder}/**/*.yaml", recursive=True)):
            with open(path, encoding="utf-8") as file:
                yield file.read()


def policy():
    for text in documents():
        yield text
        # One section at a time is small enough to be changed in a meaningful way.
        lines = text.split("\n")
        starts = [at for at, line in enumerate(lines) if re.match(r"  \w+:", line)] + [len(lines)]
        for at, end in zip(starts, starts[1:]):
            yield "policy:\n" + "\n".join(lines[at:end])


def expression():
    for text in documents():
        for line in text.split("\n"):
            found = re.search(r"(?:when|rule|confidence|accept|for_each|expression|output): *(.+)$", line)
            if found:
                yield found[1].strip("'\" ")
    with open(f"{ROOT}/src/expression/tests.rs", encoding="utf-8") as file:
        for quoted in re.findall(r'"((?:[^"\\]|\\.)*)"', file.read()):
            yield quoted.replace('\\"', '"').replace("\\\\", "\\").replace("variable", "input")
    yield from ("input.l.filter(i, i != null).size() > output.n", "has(output.m.k) && output.m.k.startsWith('a')",
                "output.m.deep.er.map(e, e.a)", "output.t.matches('^[a-z]+$') ? 1 : 2", "input.big + 1")


TARGETS = {"extract": extract, "repair": repair, "coerce": coerce, "events": events, "policy": policy,
           "expression": expression}

if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    folder = sys.argv[2]
    os.makedirs(folder, exist_ok=True)
    for seed in TARGETS[sys.argv[1]]():
        data = seed if isinstance(seed, bytes) else seed.encode("utf-8", "surrogatepass")
        if len(data) <= BYTES_MAX:
            with open(os.path.join(folder, hashlib.sha1(data).hexdigest()), "wb") as file:
                file.write(data)
