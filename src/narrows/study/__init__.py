"""A study: networks × variants × runtimes × threads, measured by one command.

STUDY.toml ──settings──► cells ──run──► records.jsonl ──► narrows.report

study_file.py the TOML file, read strictly
settings.py   what it is read into
methods.py    how a variant is made of its original: the table of methods
cells.py      what there is to measure
keys.py       the key by which a measured cell is known again
todo.py       what is missing, and about how long it takes
models.py     the ONNX file of every variant, made once and kept
prepare.py    all of them made beforehand
facts.py      size, work, what runs in int8, time by operator
quality.py    every variant and runtime judged in one pass over the pictures
session.py    latency of one network's contenders in the same rounds
run.py        what is missing is measured; what fails is recorded, and the rest goes on
record.py     what was measured of a cell
assemble.py   a record from its parts
journal.py    records, one line of JSON each, whole or not there
claims.py     what the records say of "quantization: -75 % size, but 1.45 × slower"
"""
