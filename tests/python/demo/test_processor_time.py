from __future__ import annotations

import os
import sys
import time

import pytest
from kvroute.demo.processor_time import ProcessorMeter


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_measures_processes_and_leaves_out_those_that_are_gone() -> None:
    meter = ProcessorMeter({"me": os.getpid(), "nobody": 1 << 22})
    ends = time.process_time() + 0.2
    while time.process_time() < ends:
        pass
    use = meter.read()
    assert use.cores >= 1
    assert set(use.shares) == {"me"}
    assert 0.0 < use.shares["me"] <= 1.0
    assert use.machine is not None
    assert 0.0 < use.machine <= 1.0
