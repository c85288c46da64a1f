"""A study: networks × variants × runtimes × threads, measured by one command.

STUDY.toml ──settings──► cells ──run──► records.jsonl ──► narrows.report

settings.py   the TOML file, read strictly
methods.py    how a variant is made of its original: the table of methods
models.py     the ONNX file of every variant, made once and kept
cells.py      what there is to measure, and the key by which it is known again
record.py     what was measured of a cell
journal.py    records, one line of JSON each, whole or not there
quality.py    every variant and runtime judged in one pass over the pictures
session.py    latency of one network's contenders in the same rounds
run.py        what is missing is measured; what fails is recorded, and the rest goes on
claims.py     what the records say of "quantization: -75 % size, but 1.45 × slower"
"""
