"""Compares ways to remove experts, and to merge layers with experts, on one model; prints the tables of docs/RESULTS.md.

usage: compare_experts.py LAMINATE MODEL [REMOVE,REMOVE]

LAMINATE is the command line, MODEL a model with experts such as `make_experts.py` makes. Every row is one `laminate
compress`, whose result is measured on an evaluation text that nothing was chosen by: `refit` with no span to fit is
the unchanged layers.
"""
import json, pathlib, statistics, subprocess, sys, tempfile

SEEDS = 3
ROOT = pathlib.Path(__file__).parents[2] / "src/demo"
# Stories, a part of what the model has learnt; others of the same kind are held out.
TEXT = ("--text", ROOT / "text.txt", "--eval-text", ROOT / "evaluation.txt", "--samples", 96, "--tokens", 128,
        "--eval-samples", 64)


def compress(program, model, *arguments):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([program, "compress", model, *map(str, (*arguments, *TEXT)), "--device", "cpu", "--json",
                               "--out", folder + "/out"], check=True, capture_output=True)
    return json.loads(done.stdout)


def row(name, reports):
    """The mean over the reports, and the spread of several."""
    kl = [report["merged"]["kl"] for report in reports]
    perplexity = [report["merged"]["perplexity"] for report in reports]
    spread = f" ± {statistics.stdev(kl):.3f}" if len(kl) > 1 else ""
    agreement = statistics.mean(report["merged"]["top1_agreement"] for report in reports)
    parameters = reports[0]["parameters"]["after"]
    print(f"| {name} | {statistics.mean(perplexity):.2f} | {statistics.mean(kl):.3f}{spread} | {100 * agreement:.1f} % | "
          f"{parameters / 1e6:.2f} M |", flush=True)


def main(program, model, removed="1,2,3,4,5,6"):
    head = "| {} | perplexity | KL, nats a token | same top token | parameters |\n|---|---:|---:|---:|---:|"
    print(head.format("experts removed from each layer"))
    original = compress(program, model, "--remove-experts", 1, "--method", "bi+refit")
    print(f"| none | {original['original']['perplexity']:.2f} | | | {original['parameters']['before'] / 1e6:.2f} M |")
    for n in map(int, removed.split(",")):
        for rule in ("reap", "frequency", "random"):
            seeds = range(SEEDS) if rule == "random" else [0]
            row(f"{n}, `{rule}`", [compress(program, model, "--remove-experts", n, "--expert-selection", rule, "--method",
                                           "bi+refit", "--seed", seed) for seed in seeds])
    print("\n" + head.format("layers removed, operator"))
    for n in (1, 2):
        for operator in ("match-experts", "average", "drop", "refit"):
            # Only operators that need activations are measured on the evaluation text by themselves.
            report = compare(program, model, n, operator)
            print(f"| {n}, `{operator}` | {report['perplexity']:.2f} | {report['kl']:.3f} | "
                  f"{100 * report['top1_agreement']:.1f} % | |", flush=True)
    for n in (1, 2):
        report = compress(program, model, "--remove", n, "--selection", "redundancy", "--operator", "match-experts")
        print("\n".join(warning for warning in report["warnings"] if "KL" in warning))


def compare(program, model, n, operator):
    arguments = ["compare", model, "--remove", n, "--methods", f"redundancy+{operator}", *TEXT, "--device", "cpu", "--json"]
    done = subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)
    [found] = json.loads(done.stdout)["rows"]
    return found["quality"]


if __name__ == "__main__":
    main(*sys.argv[1:])
