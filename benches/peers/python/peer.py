"""Does the work of the report's cases on an event loop of Python, asyncio's or uvloop's.

One line of input is one round: the name of the work and its numbers. The answer is one line: the
nanoseconds of the measured part, and the sum or count that is checked.
"""

import asyncio
import sys
from time import perf_counter_ns


def new_loop(name):
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def chain(loop, length):
    """Each callback queues the next."""

    def link(done):
        nonlocal reached
        if done == length:
            reached = done
            loop.stop()
            return
        loop.call_soon(link, done + 1)

    reached = 0
    started = perf_counter_ns()
    loop.call_soon(link, 0)
    loop.run_forever()
    return perf_counter_ns() - started, reached


def queued(loop, count):
    """All callbacks are queued before the first runs."""
    total = 0

    def add(message):
        nonlocal total
        total += message

    started = perf_counter_ns()
    for message in range(count):
        loop.call_soon(add, message)
    loop.call_soon(loop.stop)
    loop.run_forever()
    return perf_counter_ns() - started, total


def timers(loop, count):
    late = []

    def fire(due, done):
        late.append(perf_counter_ns() - due)
        if len(late) == count:
            done.set_result(None)

    async def schedule():
        done = loop.create_future()
        for timer in range(count):
            delay = timer % 10
            loop.call_later(delay / 1000, fire, perf_counter_ns() + delay * 1_000_000, done)
        scheduled = perf_counter_ns() - started
        await done
        return scheduled

    started = perf_counter_ns()
    scheduled = loop.run_until_complete(schedule())
    fired = perf_counter_ns() - started
    late.sort()
    last = len(late) - 1
    early = sum(1 for lateness in late if lateness < 0)
    return scheduled, fired, len(late), late[int(last * 0.5)], late[int(last * 0.99)], early


def main():
    loop = new_loop(sys.argv[1])
    works = {"chain": chain, "queued": queued, "timers": timers}
    for line in sys.stdin:
        work, *numbers = line.split()
        if work == "ready":
            answer = (0, 0)
        else:
            answer = works[work](loop, *(int(number) for number in numbers))
        print(*answer, flush=True)


main()
