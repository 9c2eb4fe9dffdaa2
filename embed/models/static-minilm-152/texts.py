"""Writes the texts that the table is fitted to, a text a line, on standard output. Nothing is drawn at random.

    python texts.py WORDNET UBUNTU > texts.txt

WORDNET is the directory of the database files of WordNet 3.0 (data.noun, data.verb, data.adj, data.adv); UBUNTU the messages of
the Ubuntu channel (irc-disentanglement, Kummerfeld et al. 2019) as events, one JSON object with a `text` a line, in gzip.
"""

import gzip
import json
import re
import sys

# Of the definitions and of the messages, every so many is taken; of the example sentences, all.
DEFINITIONS, MESSAGES = 4, 20


def synsets(wordnet):
    """Words, definition and example sentences of each synset, as WordNet's own files have them (wndb(5))."""
    for part in ("noun", "verb", "adj", "adv"):
        with open(f"{wordnet}/data.{part}", encoding="utf-8") as file:
            for line in file:
                if line.startswith("  "):  # the licence
                    continue
                fields, _, gloss = line.partition(" | ")
                fields = fields.split(" ")
                count = int(fields[3], 16)
                words = [re.sub(r"\(\w+\)$", "", w).replace("_", " ") for w in fields[4 : 4 + 2 * count : 2]]
                definition = re.split(r'[;:,]?\s*"', gloss, maxsplit=1)[0].strip()
                yield words, definition, re.findall(r'"([^"]+)"', gloss)


def messages(ubuntu):
    """Messages of more than 20 characters, each once."""
    seen = set()
    with gzip.open(ubuntu, "rt", encoding="utf-8") as file:
        for line in file:
            text = " ".join(json.loads(line)["text"].split())
            if len(text) > 20 and text not in seen:
                seen.add(text)
                yield text


def main(wordnet, ubuntu):
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for _, _, examples in synsets(wordnet):
        for example in filter(None, map(str.strip, examples)):
            print(example)
    for i, (words, definition, _) in enumerate(synsets(wordnet), 1):
        if i % DEFINITIONS == 0:
            print(f"{', '.join(words)}: {definition}")
    for i, text in enumerate(messages(ubuntu), 1):
        if i % MESSAGES == 0:
            print(text)


main(*sys.argv[1:])
