"""What holds for all tests: those on Ray run where Ray is, and wherever they are asked for."""

from importlib.util import find_spec


def pytest_collection_modifyitems(config, items):
    if find_spec("ray") is not None or "ray" in config.option.markexpr:
        return
    chosen = [item for item in items if "ray" not in item.keywords]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen
