from .model import MLModel  # noqa: F401
