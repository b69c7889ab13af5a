"""The intake's routes behind the real door and shield, and `whoami`; without the rest of the API."""

from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from keyturn.api import intake, problems
from keyturn.api.door import open_door
from keyturn.api.shield import Shield


def intake_app(hub):
    door, book = open_door(hub)

    @asynccontextmanager
    async def lifespan(_):
        loader.start()
        yield
        loader.stop()
        book.close()

    app = FastAPI(lifespan=lifespan, redirect_slashes=False)
    app.add_middleware(Shield)
    problems.install(app)
    loader = intake.add_routes(app, hub, door)

    @app.get("/api/v1/whoami")
    def whoami(request: Request):
        return {"credential": door.enter(request).name}

    return app
