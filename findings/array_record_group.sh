#!/usr/bin/env bash
# array_record 0.8.3: records are compressed in groups of 65,536 unless the writer's option says otherwise, and reading one record
# at random decompresses its whole group: with group_size:1 a random read costs a small part of that. What a file was
# written with stands in writer_options_string().
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q array_record==0.8.3
cd "$work"
venv/bin/python - <<'PY'
import os
import time

from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

records = [os.urandom(1024) for _ in range(20_000)]
took = {}
for name, options in (("default", ""), ("one", "group_size:1")):
    writer = ArrayRecordWriter(f"{name}.array_record", options)
    for record in records:
        writer.write(record)
    writer.close()
    reader = ArrayRecordReader(f"{name}.array_record")
    start = time.perf_counter()
    for i in (19_999, 7, 12_345, 4_321, 15_000):
        assert reader.read([i]) == [records[i]]
    took[name] = time.perf_counter() - start
    print(f"{options or 'no option'}: {reader.writer_options_string()}; 5 random records of 20,000 in {1000 * took[name]:.2f} ms")
    reader.close()
print(f"ratio {took['default'] / took['one']:.0f}")
assert "group_size:65536" in ArrayRecordReader("default.array_record").writer_options_string()
assert took["default"] > 10 * took["one"]
PY
