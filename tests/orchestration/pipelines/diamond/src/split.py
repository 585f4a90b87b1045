import argparse
from pathlib import Path

parser = argparse.ArgumentParser()
for name in ("words", "vowels", "rest"):
    parser.add_argument(f"--{name}", type=Path)
args = parser.parse_args()
words = args.words.read_text().split()
args.vowels.write_text("".join(f"{word}\n" for word in words if word[0] in "aeiou"))
args.rest.write_text("".join(f"{word}\n" for word in words if word[0] not in "aeiou"))
