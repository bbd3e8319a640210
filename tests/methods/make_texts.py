"""The texts out of the validation part of WikiText-2 (Merity et al. 2016, CC BY-SA).

    python make_texts.py wikitext2-valid.txt OUT

OUT gets the two texts of the tables in docs/RESULTS.md: wiki-calibration.txt, the first four fifths up to the
beginning of an article, and wiki-heldout.txt, the rest. The tokenisation of WikiText is undone as far as a rule can:
` @-@ `, and spaces before and after punctuation.

OUT gets the two files of src/prose/ as well: calibration.txt, from articles of the first three quarters, and
evaluation.txt, from articles of the rest. Sentences with a word that WikiText replaced by `<unk>`, and halves of
quotations, are left out there.
"""
import os
import re
import sys

def clean(text):
    text = re.sub(r' @(.)@ ', r'\1', text)
    text = re.sub(r' ([,.;:!?\)])', r'\1', text)
    text = text.replace('( ', '(').replace(" 's", "'s").replace(" n't", "n't")
    return re.sub(r'\n \n', '\n', text)


def articles(text):
    """Cuts a text before each heading of the first level."""
    return re.split(r'\n(?= = [^=\n]+ = ?\n)', text)


def heading(line):
    """Returns the words of a heading such as `= = History = =`, or None for another line."""
    words = re.fullmatch(r'(= )+(.*?)( =)+', line.strip())
    return words and words.group(2)


def prose(article):
    """Returns the paragraphs of an article, without sentences that have an unknown word or half a
    quotation, and the headings above them."""
    lines, above = [], []
    for line in article.split('\n'):
        title = heading(line)
        if title is not None:
            above = [] if '<unk>' in title else [title]
            continue
        sentences = re.split(r'(?<=[.!?]) (?=[A-Z"])', line.strip())
        kept = ' '.join(sentence for sentence in sentences if '<unk>' not in sentence and sentence.count('"') % 2 == 0)
        kept = re.sub(r'" ([^"]*?) "', r'"\1"', kept)
        kept = re.sub(r'(?<=\d) %', '%', kept.replace(' / ', '/').replace('$ ', '$').replace('£ ', '£'))
        kept = re.sub(r"s ' (?=[a-z])", "s' ", kept.replace('[... ]', '[...]').replace('[ ', '[').replace(' ]', ']'))
        if len(kept) < 80:
            continue
        lines += [*above, kept]
        above = []
    return '\n\n'.join(lines)


def main(source, out):
    with open(source, encoding='utf8') as file:
        text = clean(file.read())
    cut, quarter = (text.find('\n = ', int(len(text) * part)) for part in (.8, .75))
    texts = {
        'wiki-calibration': text[:cut], 'wiki-heldout': text[cut:],
        'calibration': '\n\n'.join(filter(None, map(prose, articles(text[:quarter])))) + '\n',
        'evaluation': '\n\n'.join(filter(None, map(prose, articles(text[quarter:])))) + '\n',
    }
    for name, part in texts.items():
        with open(os.path.join(out, name + '.txt'), 'w', encoding='utf8') as file:
            file.write(part)


if __name__ == '__main__':
    main(*sys.argv[1:])
