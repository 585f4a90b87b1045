"""The scoring app: FastAPI where people look, raw ASGI where it is hot."""
