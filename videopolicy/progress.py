"""Progress with an ETA: a live line on a terminal, a line every ten seconds in a log."""

import sys
import time


class Progress:
    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.first = name, total, done
        self.started = self.printed = time.perf_counter()
        self.live = sys.stdout.isatty()

    def update(self, done: int, note: str = "") -> None:
        now = time.perf_counter()
        if not self.live and now - self.printed < 10 and done < self.total:
            return
        if self.live and now - self.printed < 0.2 and done < self.total:
            return
        self.printed = now
        rate = (now - self.started) / max(1, done - self.first)
        eta = rate * (self.total - done)
        line = f"{self.name} {done}/{self.total} | {clock(now - self.started)} | eta {clock(eta)} | {note}"
        print(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n", flush=True)

    def close(self) -> None:
        if self.live:
            print(flush=True)


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
