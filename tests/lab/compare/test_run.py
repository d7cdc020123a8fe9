"""A comparison runs to a record that ``verify`` accepts, and goes on where it stopped."""

import json

from tricks_lib.lab.compare import records, run, verify

from .conftest import small


def without_times(record: dict) -> dict:
    text = json.dumps({k: v for k, v in record.items() if k not in ("wall_seconds", "date")})
    return json.loads(text, object_hook=lambda d: {k: v for k, v in d.items() if k != "seconds"})


def test_a_comparison_runs_to_a_record_that_verify_accepts(fake, tmp_path):
    file = records.path("rdrop/letters", tmp_path)
    run.run(small(), file, progress=False)
    record, predictions = records.load("rdrop/letters", tmp_path)
    assert not list(tmp_path.glob("*.partial*"))
    verify.verify(record, predictions, file.name)
    assert record["steps"]["chosen"] == 200 and not record["steps"]["still_improving"]
    assert len(record["seeds"]) == 10 and record["arms"]["rdrop"]["passes"] == 2
    assert record["arms"]["ema"]["shares"] == "baseline" and record["arms"]["rdrop"]["shares"] is None
    trained = [job.key for job in fake.jobs if not (job.settings and job.readings[0]["weights"] == "ema")]
    assert len({*trained}) == len(trained)  # nothing twice, but for a reading that only "together" asks for
