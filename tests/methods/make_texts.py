"""The two texts of the tables in docs/RESULTS.md, out of the validation part of WikiText-2 (CC BY-SA).

    python make_texts.py wikitext2-valid.txt OUT

OUT gets wiki-calibration.txt, the first four fifths up to the beginning of an article, and wiki-heldout.txt, the rest.
The tokenisation of WikiText is undone as far as a rule can: ` @-@ `, and spaces before and after punctuation.
"""
import os
import re
import sys


def clean(text):
    text = re.sub(r' @(.)@ ', r'\1', text)
    text = re.sub(r' ([,.;:!?\)])', r'\1', text)
    text = text.replace('( ', '(').replace(" 's", "'s").replace(" n't", "n't")
    return re.sub(r'\n \n', '\n', text)


def main(source, out):
    with open(source, encoding='utf8') as file:
        text = clean(file.read())
    cut = text.find('\n = ', int(len(text) * .8))
    for name, part in ('wiki-calibration', text[:cut]), ('wiki-heldout', text[cut:]):
        with open(os.path.join(out, name + '.txt'), 'w', encoding='utf8') as file:
            file.write(part)


if __name__ == '__main__':
    main(*sys.argv[1:])
