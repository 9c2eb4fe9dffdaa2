"""Measures sentence embedding on this machine: Nearcast, onnxruntime (f32) and sentence-transformers (torch), in turns.

    python compare.py TEXTS --model DIRECTORY --nearcast "COMMAND" [--rounds 5] [--threads 2]

TEXTS holds a text a line. COMMAND is run with the file behind it and must write a .npy to stdout and one JSON line of `texts`,
`tokens`, `seconds` to stderr: `target/release/examples/embed`, or `nearcast embed --format npy --stats`. All three get the same
texts, cut to the same 256 tokens, and the same number of threads. onnxruntime and torch get batches of 32 sorted by length,
which is what they are fastest with. Rounds alternate, so that whatever else the machine does falls on all of them; the best
round of each counts. Prints tokens a second, the ratios, and the lowest cosine of Nearcast's vectors to those of
sentence-transformers; then the median time of one short text in a process that is warm.
"""

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("texts")
parser.add_argument("--model", required=True)
parser.add_argument("--nearcast", required=True)
parser.add_argument("--speed", help="the example `speed`, for the time of one short text")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=os.cpu_count())
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.environ["TOKENIZERS_PARALLELISM"] = "true"

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer

torch.set_num_threads(args.threads)
texts = open(args.texts, encoding="utf-8").read().splitlines()
model = SentenceTransformer(args.model, device="cpu")
tokenizer = model.tokenizer


def encoded(batch):
    return tokenizer(batch, padding=True, truncation=True, max_length=256, return_tensors="np")


def export(path):
    """The bare encoder as ONNX, made by torch."""
    bert = model[0].auto_model.eval()

    class Bare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)[0]

    example = tokenizer(["one text", "and another, longer one"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    torch.onnx.export(
        Bare(), tuple(example[n] for n in names), path, input_names=names, output_names=["states"],
        dynamic_axes={n: {0: "b", 1: "t"} for n in names + ["states"]}, opset_version=17, dynamo=False,
    )


path = os.path.join(os.environ.get("TMPDIR", "/tmp"), "all-MiniLM-L6-v2.onnx")
if not os.path.exists(path):
    bert_attention = model[0].auto_model.config
    bert_attention._attn_implementation = "eager"
    export(path)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = args.threads
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def ort(batch):
    tokens = encoded(batch)
    feed = {n: tokens[n].astype(np.int64) for n in ("input_ids", "attention_mask", "token_type_ids")}
    states = session.run(None, feed)[0]
    mask = tokens["attention_mask"][..., None].astype(np.float32)
    pooled = (states * mask).sum(1) / mask.sum(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def run_ort():
    start = time.perf_counter()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.zeros((len(texts), 384), np.float32)
    for i in range(0, len(order), 32):
        part = order[i : i + 32]
        out[part] = ort([texts[j] for j in part])
    return time.perf_counter() - start, out


def run_torch():
    start = time.perf_counter()
    out = model.encode(texts, batch_size=32, convert_to_numpy=True, normalize_embeddings=True)
    return time.perf_counter() - start, out


def run_nearcast():
    done = subprocess.run(shlex.split(args.nearcast) + [args.texts], capture_output=True, check=True)
    stats = json.loads(done.stderr.decode().strip().splitlines()[-1])
    return stats["seconds"], np.load(io.BytesIO(done.stdout)), stats


lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
tokens = sum(lengths)
best = {}
vectors = {}
for round_ in range(args.rounds):
    for name, run in (("nearcast", run_nearcast), ("onnxruntime", run_ort), ("sentence-transformers", run_torch)):
        result = run()
        if name == "nearcast" and result[2]["tokens"] != tokens:
            sys.exit(f"nearcast counted {result[2]['tokens']} tokens, the tokenizer {tokens}")
        best[name] = min(best.get(name, 1e9), result[0])
        vectors[name] = result[1]
        print(f"round {round_}: {name} {tokens / result[0]:.0f} tokens/s", flush=True)

print(f"\n{len(texts)} texts, {tokens} tokens, mean {tokens / len(texts):.1f}, longest {max(lengths)}; {args.threads} threads")
for name, seconds in best.items():
    print(f"{name:24}{tokens / seconds:9.0f} tokens/s   nearcast is {seconds / best['nearcast']:.2f} times as fast")
cosine = (vectors["nearcast"] * vectors["sentence-transformers"]).sum(1)
print(f"cosine to sentence-transformers: lowest {cosine.min():.7f}, mean {cosine.mean():.7f}")

short = "trail shoes for wet rock"
for name, one in (("onnxruntime", lambda: ort([short])), ("sentence-transformers", lambda: model.encode([short]))):
    times = []
    for _ in range(200):
        start = time.perf_counter()
        one()
        times.append(time.perf_counter() - start)
    print(f"one short text ({len(tokenizer(short)['input_ids'])} tokens), {name}: p50 {sorted(times)[100] * 1e3:.2f} ms")
if args.speed:
    print("nearcast: " + subprocess.run([args.speed, args.texts, str(args.threads), "1"], capture_output=True, text=True, check=True).stdout.splitlines()[-1])
