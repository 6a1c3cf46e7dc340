"""A question to the person at the terminal, without holding up the event loop."""

import asyncio
import sys

LINE_CHARS_MAX = 4_096


async def ask(prompt: str) -> str:
    """Show the prompt and wait for a line. EOFError when there will be none."""
    sys.stdout.write(prompt)
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    # A terminal hands over whole lines, so reading one does not wait.
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    line = sys.stdin.readline(LINE_CHARS_MAX)
    if not line:
        raise EOFError
    return line.strip()
