"""`laminate evaluate --mmlu` chooses, question by question, what transformers chooses in float32.

Run by `npm test` where a Python with torch and transformers is found; `LAMINATE` names the binary. `SMOLLM2` names
a folder with a real model, such as SmolLM2-135M-Instruct; without it only the demo model is asked.
"""
import csv, json, os, pathlib, shutil, subprocess, sys, tempfile, unittest

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MMLU = ROOT / "tests/data/mmlu"
SUBJECTS = sorted(path.name.removesuffix("_test.csv") for path in (MMLU / "test").glob("*_test.csv"))


def laminate(*arguments):
    done = subprocess.run([os.environ["LAMINATE"], "evaluate", *map(str, arguments), "--samples", "2", "--mmlu", MMLU,
                           "--json", "--device", "cpu"], check=True, capture_output=True)
    return json.loads(done.stdout)["mmlu"]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def example(row, answered):
    """`format_example` of the benchmark's `evaluate.py`."""
    lines = [row[0], *(f"{letter}. {answer}" for letter, answer in zip("ABCD", row[1:5])), "Answer:"]
    return "\n".join(lines) + (f" {row[5]}\n\n" if answered else "")


def prompt(subject, row, few_shot):
    head = f"The following are multiple choice questions (with answers) about  {subject.replace('_', ' ')}.\n\n"
    solved = rows(MMLU / f"dev/{subject}_dev.csv")[:few_shot]
    return head + "".join(example(each, True) for each in solved) + example(row, False)


class Model:
    """Both scores by transformers, one sequence at a time, without padding."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def ids(self, text):
        return [self.model.config.bos_token_id] + self.tokenizer(text, add_special_tokens=False).input_ids

    def logits(self, ids):
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0]

    def letter(self, prompt):
        texts = [self.ids(f"{prompt} {letter}") for letter in "ABCD"]
        assert len({tuple(ids[:-1]) for ids in texts}) == 1
        logits = self.logits(texts[0][:-1])[-1]
        return "ABCD"[int(torch.stack([logits[ids[-1]] for ids in texts]).argmax())]

    def full_answer(self, prompt, answers):
        scores = []
        for answer in answers:
            ids, start = self.ids(f"{prompt} {answer}"), len(self.ids(prompt))
            assert ids[:start] == self.ids(prompt)
            log_p = torch.log_softmax(self.logits(ids).double(), -1)
            tokens = [log_p[i - 1, ids[i]] for i in range(start, len(ids))]
            scores.append(sum(tokens).item() / len(answer.encode()))
        return "ABCD"[max(range(4), key=scores.__getitem__)]


class Mmlu(unittest.TestCase):
    def check(self, folder, few_shot, full_questions):
        """All letters, and the full answers to the first questions of each subject."""
        theirs = Model(folder)
        ours = laminate(folder, "--few-shot", few_shot)
        texts = laminate(folder, "--few-shot", few_shot, "--full-answers", "--questions-per-subject", full_questions)
        self.assertEqual((ours["questions"], ours["shortened"], ours["skipped"]), (60, 0, 0))
        letters = {(a["subject"], a["question"]): a["letter"] for a in ours["answers"]}
        full = {(a["subject"], a["question"]): (a["letter"], a["full_answer"]) for a in texts["answers"]}
        self.assertEqual(len(full), full_questions * len(SUBJECTS))
        correct = {subject: 0 for subject in SUBJECTS}
        for subject in SUBJECTS:
            for number, row in enumerate(rows(MMLU / f"test/{subject}_test.csv")):
                asked, key = prompt(subject, row, few_shot), (subject, number)
                letter = theirs.letter(asked)
                self.assertEqual(letters[key], letter, key)
                correct[subject] += letter == row[5]
                if key in full:
                    self.assertEqual(full[key], (letter, theirs.full_answer(asked, row[1:5])), key)
        self.assertEqual({s["subject"]: s["letter"]["correct"] for s in ours["by_subject"]}, correct)
        self.assertEqual(ours["letter"]["correct"], sum(correct.values()))

    def demo(self):
        """The demo with a tokenizer that writes a space and each letter alike: its own joins them in " B" only."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        copy = pathlib.Path(folder.name) / "demo"
        shutil.copytree(ROOT / "src/demo", copy)
        # High bytes and low bytes of the numbers lie apart there (src/demo/planes.rs).
        planes = (copy / "model.safetensors.planes").read_bytes()
        start = 8 + int.from_bytes(planes[:8], "little")
        middle = (start + len(planes)) // 2
        data = bytearray(len(planes) - start)
        data[0::2], data[1::2] = planes[middle:], planes[start:middle]
        (copy / "model.safetensors").write_bytes(planes[:start] + data)
        tokenizer = json.loads((copy / "tokenizer.json").read_text())
        merges = tokenizer["model"]["merges"]
        is_joined = lambda merge: "".join(merge.split(" ") if isinstance(merge, str) else merge) == "▁B"
        tokenizer["model"]["merges"] = [merge for merge in merges if not is_joined(merge)]
        self.assertEqual(len(merges) - len(tokenizer["model"]["merges"]), 1)
        (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
        return copy

    def test_the_demo(self):
        self.check(self.demo(), 0, 3)

    @unittest.skipUnless(os.environ.get("SMOLLM2"), "SMOLLM2 does not name a folder with a real model")
    def test_a_real_model(self):
        self.check(os.environ["SMOLLM2"], 1, 2)


if __name__ == "__main__":
    sys.exit(unittest.main())
