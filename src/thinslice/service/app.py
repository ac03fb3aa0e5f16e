"""The application: routes of the page and of the API. Handlers are short; `sources.py` and `jobs.py` do the work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from thinslice.about import NOTICE, __version__
from thinslice.errors import InputError, ThinsliceError, UnreadableError
from thinslice.queue import Queue
from thinslice.service import volumes
from thinslice.service.changes import Changes
from thinslice.service.folder import DataFolder, read_json
from thinslice.service.guard import REPORT_POLICY, Guard
from thinslice.service.jobs import UPSCALE, Jobs, offered_models
from thinslice.service.schemas import (
    About,
    FolderChoice,
    FolderList,
    FolderRoot,
    JobList,
    JobRequest,
    JobView,
    Problem,
    SourceView,
    UploadView,
    VolumeView,
)
from thinslice.service.settings import GIB, ServeSettings
from thinslice.service.sources import Sources
from thinslice.service.zip_stream import zip_pieces

STATIC = Path(__file__).parent / "static"

VIEWER = Path(__file__).parents[1] / "pictures" / "viewer" / "viewer.js"
"""The viewer that the page opens, as one script."""

STATUS_BY_EXIT_CODE = {2: 400, 3: 422, 4: 422, 5: 409, 6: 507, 7: 422}
"""Status of a refusal by the exit code that the command line would have."""

SWEPT_EVERY_S = 600.0

PIECE_BYTES = 1 << 20

MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".json": "application/json", ".png": "image/png"}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "options that contradict each other, or a name that does not exist",
        401: "no token, or a wrong one",
        403: "a request that another page caused",
        404: "no such source, job or file",
        422: "an input or a network that is refused",
        507: "the disk or the data folder is full",
    }.items()
}


class Service:
    """What the handlers share."""

    def __init__(self, folder: DataFolder, queue: Queue, settings: ServeSettings) -> None:
        self.folder = folder
        self.queue = queue
        self.settings = settings
        self.sources = Sources(folder, queue, settings)
        self.jobs = Jobs(folder, queue, self.sources)
        self.changes = Changes(queue)

    def sweep(self) -> None:
        """Remove what is old, or more than the folder may hold."""
        self.folder.sweep(self.queue, keep_days=self.settings.keep_days, limit_gb=self.settings.limit_gb)

    async def keep_house(self) -> None:
        """Sweep until the task is cancelled."""
        while True:
            with contextlib.suppress(ThinsliceError, OSError):
                await asyncio.to_thread(self.sweep)
            await asyncio.sleep(SWEPT_EVERY_S)


router = APIRouter(prefix="/api", responses=PROBLEMS)


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.get("/about")
def about(request: Request) -> About:
    """Version, notice, networks, devices and limits."""
    service = _service(request)
    machine = read_json(service.folder.root / "machine.json") or {"devices": ["cpu"]}
    settings = service.settings
    return About(
        models=offered_models(),
        devices=("auto", *machine["devices"]),
        folders=tuple(FolderRoot(number=k, name=path.name) for k, path in enumerate(settings.allow)),
        upload_bytes=int(settings.upload_gb * GIB),
        upload_files=settings.upload_files,
        keep_days=settings.keep_days,
    )


@router.post("/uploads", status_code=201)
def open_upload(request: Request) -> UploadView:
    """Begin an upload."""
    return _service(request).sources.open_upload()


@router.put("/uploads/{upload}/files/{number}")
async def take_file(
    request: Request,
    upload: str,
    number: int,
    name: Annotated[str, Query(max_length=4096, description="of the file; its suffix alone is used")] = "",
) -> UploadView:
    """Send one file of an upload, as the body of the request."""
    length = request.headers.get("content-length")
    declared = None if length is None else int(length)
    try:
        return await _service(request).sources.take(upload, number, name, declared, request.stream())
    except ClientDisconnect:
        raise InputError("The connection ended before the file did; send it again.") from None


@router.post("/uploads/{upload}/complete")
def complete_upload(request: Request, upload: str) -> SourceView:
    """Close an upload; the server inspects it."""
    return _service(request).sources.complete(upload)


@router.get("/folders/{number}")
def list_folder(request: Request, number: int, path: Annotated[str, Query(max_length=4096)] = "") -> FolderList:
    """List a folder below an allowed one."""
    return _service(request).sources.list_folder(number, path)


@router.post("/sources", status_code=201)
def choose_source(request: Request, choice: FolderChoice) -> SourceView:
    """Inspect a folder or file below an allowed folder where it lies."""
    return _service(request).sources.choose(choice.folder, choice.path)


@router.get("/sources")
def list_sources(request: Request) -> list[SourceView]:
    """List sources with their series."""
    return _service(request).sources.all()


@router.get("/sources/{source}")
def get_source(request: Request, source: str) -> SourceView:
    """One source with its series."""
    return _service(request).sources.get(source)


@router.delete("/sources/{source}", status_code=204)
def remove_source(request: Request, source: str) -> None:
    """Remove a source that no unfinished job needs."""
    _service(request).sources.remove(source)


@router.post("/jobs", status_code=201)
def submit_job(request: Request, wanted: JobRequest) -> JobView:
    """Queue a job; the same request again is the same job."""
    return _service(request).jobs.submit(wanted)


@router.get("/jobs")
def list_jobs(request: Request) -> JobList:
    """List jobs, oldest first."""
    return _service(request).jobs.all()


@router.get("/jobs/{job}")
def get_job(request: Request, job: int) -> JobView:
    """One job and its progress."""
    jobs = _service(request).jobs
    return jobs.view(jobs.get(job))


@router.post("/jobs/{job}/cancel")
def cancel_job(request: Request, job: int) -> JobView:
    """Cancel a job."""
    return _service(request).jobs.cancel(job)


@router.delete("/jobs/{job}", status_code=204)
def remove_job(request: Request, job: int) -> None:
    """Remove a finished job and what it made."""
    _service(request).jobs.remove(job)


@router.get(
    "/jobs/{job}/files/{name}",
    response_class=Response,
)
def fetch_file(request: Request, job: int, name: str) -> Response:
    """Fetch a file: dicom.zip, thin.nii.gz, uncertainty.nii.gz, report.html, report.json, preview.png or view.html."""
    path = _service(request).jobs.file(job, name)
    stem, _, suffix = name.partition(".")
    download = f"thinslice-{job}-{stem}.{suffix}"
    if name == "dicom.zip":
        return StreamingResponse(
            zip_pieces(path, f"thinslice-{job}"),
            media_type="application/zip",
            headers={"content-disposition": f'attachment; filename="{download}"'},
        )
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    # The viewer's page has a script, which must not run with the rights of the service's own pages.
    shown = "inline" if name in ("report.html", "preview.png") else "attachment"
    headers = {"content-security-policy": REPORT_POLICY} if path.suffix == ".html" else None
    return FileResponse(path, media_type=media_type, filename=download, content_disposition_type=shown, headers=headers)


@router.get("/jobs/{job}/volumes")
def list_volumes(request: Request, job: int) -> list[VolumeView]:
    """Grids of the raw volumes of a job, and how many slices are ready."""
    service = _service(request)
    return volumes.described(service.folder.volumes(service.jobs.get(job).key))


@router.get(
    "/jobs/{job}/volumes/{name}",
    response_class=Response,
)
def fetch_slices(
    request: Request,
    job: int,
    name: str,
    start: Annotated[int, Query(ge=0, description="first slice")] = 0,
    stop: Annotated[
        int | None, Query(ge=1, description="one beyond the last slice; all that are ready if absent")
    ] = None,
) -> Response:
    """Slices of a raw volume: little-endian int16, (depth, height, width)."""
    service = _service(request)
    folder = service.folder.volumes(service.jobs.get(job).key)
    found = [view for view in volumes.described(folder) if view.name == name]
    if not found:
        raise UnreadableError("The job has no such volume.")
    first, count = volumes.byte_range(found[0], start, stop)
    file = (folder / f"{found[0].name}.i16").open("rb")

    def pieces() -> Iterator[bytes]:
        with file:
            file.seek(first)
            left = count
            while left and (piece := file.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream", headers={"content-length": str(count)})


@router.get(
    "/events",
    response_class=EventSourceResponse,
)
async def events(
    request: Request,
    since: Annotated[int | None, Query(ge=0, description="revision of the list that the client has")] = None,
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Changes as server-sent events: `job` with a JobView, `source` with an id, `removed` when a job was removed."""
    service = _service(request)
    resumed = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else None
    seen = next((value for value in (resumed, since) if value is not None), service.changes.revision)
    while True:
        newest = await service.changes.after(seen)
        changed = await asyncio.to_thread(service.queue.changed, seen)
        for job in changed:
            seen = job.revision
            if job.kind != UPSCALE:
                yield ServerSentEvent(event="source", id=str(seen), data={"id": job.spec["source"]})
            else:
                view = await asyncio.to_thread(service.jobs.view, job)
                yield ServerSentEvent(event="job", id=str(seen), data=view)
        if not changed:
            seen = newest
            yield ServerSentEvent(event="removed", id=str(seen), data={})


def _problem(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ThinsliceError):
        raise error
    status = STATUS_BY_EXIT_CODE.get(error.exit_code, 500)
    if isinstance(error, UnreadableError) and request.method != "PUT":
        status = 404
    return JSONResponse({"detail": str(error), "exit_code": error.exit_code}, status)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Name the field that is wrong, without the value: a client's value is not ours to repeat."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    named = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:5])
    return JSONResponse({"detail": f"The request does not fit ({named}).", "exit_code": 2}, 400)


def _http_problem(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else "The server failed"
    return JSONResponse({"detail": detail.rstrip(".") + ".", "exit_code": None}, status)


def _failure(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"internal error ({type(error).__name__}); please report it.", "exit_code": 1}, 500)


def create_app(service: Service) -> FastAPI:
    """The application without its guard, for a server or the description of the API.

    Args:
        service: what the handlers share.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.sources.recover)
        tasks = [asyncio.create_task(service.changes.watch()), asyncio.create_task(service.keep_house())]
        yield
        for task in tasks:
            task.cancel()

    # No page of the API's description: the usual ones load scripts from elsewhere.
    app = FastAPI(
        title="thinslice",
        version=__version__,
        description=f"Thick-slice CT in, thin-slice CT out. {NOTICE}",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        # Variables of the environment could otherwise send traces to a collector elsewhere.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
    )
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(ThinsliceError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)

    @app.get("/viewer.js", include_in_schema=False)
    def viewer_script() -> FileResponse:
        if not VIEWER.is_file():
            raise UnreadableError("This installation has no viewer.")
        return FileResponse(VIEWER, media_type="text/javascript")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(Exception, _failure)
    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app


def guarded(service: Service, *, token: str, port: int) -> Guard:
    """The application behind its guard."""
    return Guard(create_app(service), token=token, hosts=service.settings.hosts(port), cookie=f"thinslice-{port}")
