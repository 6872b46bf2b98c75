"""A gateway's worker in a process of its own, to be killed: ``worker_process.py URL [hang]``.

With ``hang`` every tenth job never ends, so that a kill always finds some under way.
"""

import asyncio
import sys
from typing import Any

from toolkit.gateway.jobs.schema import Job
from toolkit.gateway.jobs.store import JobStore
from toolkit.gateway.jobs.worker import Worker


async def run(job: Job) -> dict[str, Any]:
    if "hang" in sys.argv and int(job.request_id) % 10 == 0:
        await asyncio.Event().wait()
    await asyncio.sleep(0.02)
    return {"predictions": [[float(job.request_id)]]}


async def main(url: str) -> None:
    store = await JobStore.open(url)
    async with Worker(store, run, concurrency=10, lease_seconds=1.0, poll_seconds=0.1):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
