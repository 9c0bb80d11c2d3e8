"""Sliders for who reads the notebook in a live kernel."""

from anneal_utils import headless


def explore(draw, *, live: bool | None = None, **controls):
    """Sliders around ``draw(**values)`` in a live kernel; one static drawing when headless.

    ``controls`` are ipywidgets. ``draw`` shows its figure itself, by ``show``.
    """
    if not (not headless() if live is None else live):
        draw(**{name: control.value for name, control in controls.items()})
        return None
    import ipywidgets
    from IPython.display import display

    for control in controls.values():
        if hasattr(control, "continuous_update"):
            control.continuous_update = False  # one retraining per move, not one per pixel

    output = ipywidgets.interactive_output(draw, controls)
    box = ipywidgets.VBox([*controls.values(), output])
    display(box)
    return box
