"""The engine seen from the parent: it starts the confined worker, talks to it, and never believes it.

The parent imports no torch.  What the worker sends is checked field by field; what it prints stays in memory
and is never shown, because model code quotes prompts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from fluxctx.confined.spawn import Child, Grants
from fluxctx.confined.spawn import spawn as spawn_confined
from fluxctx.domain import (
    Event,
    GenerationRequest,
    InstalledModel,
    JobId,
    Phase,
    RawImage,
    Rendered,
    RenderJob,
    Size,
    Warned,
)
from fluxctx.engine import machine, plan
from fluxctx.engine.catalog import Catalog
from fluxctx.engine.messages import failure, job_head, job_pixels, read_phase, read_progress, read_result
from fluxctx.engine.placement import Memory, Placement, plan_placement
from fluxctx.errors import EngineFailed, FluxctxError, TimedOut

OnEvent = Callable[[Event], None]
WORKER_MODULE = "fluxctx.engine.worker"
# Threads that wait by spinning starve each other on a machine that has other work: 1 s a step instead of 0.03 s.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}
PROGRESS_INTERVAL_S = 0.1
KEPT_WARNINGS = 64
UNKNOWN_VRAM_BYTES = 1 << 50


class Spawn(Protocol):
    """How a confined child is started; tests hand in a stand-in."""

    def __call__(
        self, module: str, *, grants: Grants, env_extra: Mapping[str, str] | None = None, threads: int = 1
    ) -> Child:
        """Start `module` confined."""


class Engine:
    """One worker for one model at a time, kept between renders; the `Engine` of generation.py."""

    def __init__(
        self,
        catalog: Catalog,
        *,
        spawn: Spawn = spawn_confined,
        threads: int | None = None,
        timeout_s: float | None = None,
        strict: bool = False,
        memory: Callable[[], Memory] = machine.free_memory,
    ) -> None:
        self._catalog = catalog
        self._spawn = spawn
        self._threads = threads or machine.available_cores()
        self._timeout_s = timeout_s
        self._strict = strict
        self._memory = memory
        self._worker: Worker | None = None
        self._warnings: dict[JobId, list[Warned]] = {}
        self._lock = threading.Lock()

    def find(self, name: str) -> InstalledModel:
        """Look a model up by name or alias; raises ModelNotFound."""
        return self._catalog.find(name)

    def plan(
        self,
        request: GenerationRequest,
        model: InstalledModel,
        job_id: JobId,
        images: Mapping[str, Sequence[RawImage]],
    ) -> RenderJob:
        """Resolve defaults and check what model and machine can do, before anything is loaded.

        Raises InvalidRequest, DoesNotFit.
        """
        entry = self._catalog.entry(model.name)
        job = plan.plan_render(request, entry, job_id, images)
        self.placement(job)
        while len(self._warnings) >= KEPT_WARNINGS:  # planned and never rendered: a dry run
            self._warnings.pop(next(iter(self._warnings)))
        self._warnings[job_id] = plan.warnings(request, entry, job, self.output_size(request, model, job))
        return job

    def placement(self, job: RenderJob) -> Placement:
        """Say what a planned job takes and where it goes, for `--dry-run`; raises DoesNotFit.

        Video memory is the driver's to know and the worker's to meet; an accelerator counts as large enough.
        """
        elements = self._catalog.entry(job.model).elements
        memory = self._memory()
        if job.device != "cpu" and memory.vram_bytes is None:
            memory = Memory(ram_bytes=memory.ram_bytes, vram_bytes=UNKNOWN_VRAM_BYTES)
        return plan_placement(elements, job.render_size, memory, device=job.device, dtype=job.dtype)

    def output_size(
        self, request: GenerationRequest, model: InstalledModel, job: RenderJob | None = None
    ) -> Size:
        """Say how large the stored picture is; larger than the render size means enlarged, and said so."""
        if job is not None and request.size is None and not model.native_sizes:
            return job.render_size
        return plan.output_size(request, model)

    def warm(self, model: InstalledModel, *, dtype: str | None = None, device: str = "cpu") -> None:
        """Start the worker and its imports now, while the caller is busy elsewhere; it learns no prompt.

        Raises ModelAltered, ConfinementUnavailable.
        """
        with self._lock:
            self._worker_for(model, dtype or model.default_dtype, device)

    @contextmanager
    def render(
        self, job: RenderJob, model: InstalledModel, on_event: OnEvent
    ) -> Iterator[Iterator[Rendered]]:
        """Yield one result a seed; leaving the context early kills the worker.

        Raises:
            EngineFailed: the worker died, or the model's code failed.
            OutOfMemory, TimedOut, ModelAltered, ConfinementUnavailable.
        """
        with self._lock:
            for warning in self._warnings.pop(job.job_id, []):
                on_event(warning)
            worker = self._worker_for(model, job.dtype, job.device)
            watchdog = worker.watchdog(self._timeout_s)
            try:
                head = job_head(job, self._catalog.entry(model.name), self.placement(job))
                yield worker.render(job, head, on_event)
            finally:
                watchdog.cancel()
                if not worker.idle:
                    self._end()

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._end()

    def _worker_for(self, model: InstalledModel, dtype: str, device: str) -> Worker:
        """The running worker if it serves this model and lives, else a new one."""
        key = (model.directory, model.sha256, dtype, device)
        if self._worker is not None and (self._worker.key != key or not self._worker.alive):
            self._end()
        if self._worker is None:
            grants = Grants(read=(model.directory,), devices="cuda" if device == "cuda" else "none")
            child = self._spawn(WORKER_MODULE, grants=grants, env_extra=WAITING, threads=self._threads)
            self._worker = Worker(child, key)
            try:
                self._worker.load(model, dtype, device, self._threads)
                self._catalog.verify(model.name, full=self._strict)  # while the child imports
            except BaseException:
                self._end()
                raise
        return self._worker

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.child.close()


class Worker:
    """One confined child that holds one model."""

    def __init__(self, child: Child, key: tuple[str, str, str, str]) -> None:
        self.child = child
        self.key = key
        self.idle = True
        self._loaded = False
        self._timed_out = False

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.child.poll() is None

    def load(self, model: InstalledModel, dtype: str, device: str, threads: int) -> None:
        """Ask for the model without waiting; a dead child is noticed by render."""
        head = {"directory": model.directory, "pipeline": model.pipeline}
        head |= {"dtype": dtype, "device": device}
        try:
            self.child.channel.send("load", {**head, "threads": threads})
        except EOFError:
            pass

    def watchdog(self, timeout_s: float | None) -> threading.Timer:
        """A timer that kills the child, whatever it is doing; not started where there is no limit."""
        timer = threading.Timer(timeout_s or 0.0, self._expire)
        timer.daemon = True
        if timeout_s is not None:
            timer.start()
        return timer

    def render(self, job: RenderJob, head: dict[str, Any], on_event: OnEvent) -> Iterator[Rendered]:
        """Send the job once the child is confined, and yield its pictures."""
        self.idle = False
        try:
            layers = asdict(self.child.ready())
            if not self._loaded:
                on_event(Phase(name="load"))
                self._await_loaded()
            self.child.channel.send("render", head, job_pixels(job))
            yield from self._results(job, layers, on_event)
        except EOFError:
            raise self._death() from None
        except EngineFailed:
            if self._timed_out:
                raise self._death() from None
            raise
        self.idle = True

    def _await_loaded(self) -> None:
        while True:
            frame = self.child.channel.recv()
            if frame.kind == "loaded":
                self._loaded = True
                return
            if frame.kind == "failed":
                raise failure(frame.head, "could not be loaded")

    def _results(self, job: RenderJob, layers: Mapping[str, Any], on_event: OnEvent) -> Iterator[Rendered]:
        pending = list(enumerate(job.seeds))
        throttle = Throttle(PROGRESS_INTERVAL_S)
        while True:
            frame = self.child.channel.recv()
            if frame.kind == "result" and pending:
                index, seed = pending.pop(0)
                yield read_result(frame.head, frame.blob, index, seed, job, layers)
            elif frame.kind == "phase" and (phase := read_phase(frame.head)):
                on_event(phase)
            elif frame.kind == "progress" and (progress := read_progress(frame.head, len(job.seeds))):
                if throttle.due(last=progress.step == progress.steps):
                    on_event(progress)
            elif frame.kind == "failed":
                raise failure(frame.head, "failed")
            elif frame.kind == "done" and not pending:
                return
            else:
                raise EngineFailed("the worker broke the protocol", hint="please report this")

    def _expire(self) -> None:
        self._timed_out = True
        self.child.kill()

    def _death(self) -> FluxctxError:
        if self._timed_out:
            return TimedOut(
                "the picture was not ready in the time allowed", hint="raise --timeout, or lower --steps"
            )
        status = self.child.wait(5.0)
        ended = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        return EngineFailed(
            f"the worker {ended}", hint="run it again; if memory is short, choose a smaller size or model"
        )


class Throttle:
    """Lets one event through every `interval_s`, and always the last."""

    def __init__(self, interval_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock_s = clock_s
        self._next_s = -1.0

    def due(self, *, last: bool) -> bool:
        """Whether to pass this one on."""
        now_s = self._clock_s()
        if not last and now_s < self._next_s:
            return False
        self._next_s = now_s + self._interval_s
        return True
