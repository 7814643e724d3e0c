"""The bench counts the CPU time of a tree of processes, whoever of them ends when."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.common import cpu

# Told "burn" it uses time in four places and says what the kernel counted for it and its ended children meanwhile.
PROGRAM = """
import json, os, subprocess, sys, threading, time

def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass

CHILD = "import time\\nwhile time.process_time() < 0.3: pass"

def counted():
    return sum(os.times()[:4])

idle = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print("ready", flush=True)
for line in sys.stdin:
    before = counted()
    burn(0.2)
    thread = threading.Thread(target=burn, args=(0.2,))
    thread.start()
    thread.join()
    subprocess.run([sys.executable, "-c", CHILD], check=True)
    print(json.dumps(counted() - before), flush=True)
idle.communicate(b"\\n")
"""
#: The kernel's ticks are 10 ms, and each of the four figures compared is rounded to them.
ROUNDING = 0.06


@pytest.fixture
def program() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == "ready\n"
        yield running


def burnt(program: subprocess.Popen[str]) -> float:
    """Seconds of CPU that the program says it and its ended children used."""
    assert program.stdin
    assert program.stdout
    print("burn", file=program.stdin, flush=True)
    return float(json.loads(program.stdout.readline()))


def test_threads_and_children_that_ended_within_the_interval_are_counted(program: subprocess.Popen[str]) -> None:
    meter = cpu.Meter([program.pid])
    said = burnt(program)
    spent = meter.stop()
    assert said > 0.6
    assert spent.cpu_ns / 1e9 == pytest.approx(said, abs=ROUNDING)
    assert 0 < spent.user_ns <= spent.cpu_ns


def test_only_what_lies_in_the_interval_is_counted(program: subprocess.Popen[str]) -> None:
    burnt(program)
    meter = cpu.Meter([program.pid])
    assert meter.stop().cpu_ns < 0.3e9


def test_a_meter_of_nobody_counts_nothing() -> None:
    assert cpu.Meter([]).stop() == (0, 0, 0, 0)


def test_a_tree_has_the_root_and_its_descendants_with_their_memory(program: subprocess.Popen[str]) -> None:
    found = cpu.tree([program.pid])
    assert found[0] == program.pid
    assert len(found) == 2
    assert cpu.Meter([program.pid]).stop().rss == pytest.approx(sum(map(cpu.rss, found)), rel=0.2)
    assert "input()" in cpu.command_line(found[1])


def test_a_process_that_is_gone_has_no_tree() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(30)
    assert cpu.tree([gone.pid]) == []
    assert cpu.rss(gone.pid) == 0
    assert cpu.command_line(gone.pid) == ""


def test_quiet_is_waited_for(program: subprocess.Popen[str]) -> None:
    assert cpu.wait_until_quiet([program.pid], seconds=0.2, at_most=30)
    assert program.stdin
    assert program.stdout
    print("burn", file=program.stdin, flush=True)
    assert cpu.wait_until_quiet([program.pid], seconds=0.2, at_most=30)
    assert float(program.stdout.readline()) > 0.6


def test_the_wait_for_quiet_has_an_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            assert not cpu.wait_until_quiet([busy.pid], seconds=0.2, at_most=0.5)
        finally:
            busy.kill()
