"""`visualize --activations`, `--filters` and `--depth`: what the layers compute and keep."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cvtrain.backend import keras
from cvtrain.commands.visualize.output import ResultPage
from cvtrain.commands.visualize.request import VisualizeRequest
from cvtrain.explain.activations import activation_reader, layers_with_filters
from cvtrain.explain.filters import filter_images
from cvtrain.explain.flat_model import find_layer
from cvtrain.explain.layer_statistics import depth_story
from cvtrain.models.transfer import in_precision
from cvtrain.steps.inspected_model import ImageReader, InspectedModel
from cvtrain.system.console import Console
from cvtrain.system.text import escape, safe_name
from cvtrain.training.precision import choose_precision


def draw_activations(
    subject: InspectedModel,
    images: ImageReader,
    look: VisualizeRequest,
    folder: Path,
    *,
    console: Console,
) -> None:
    """Draw the activation of every channel for each image.

    With --layer, its activations are written as well, (h, w, channels) float32.
    """
    from cvtrain.plots.layers import draw_activations as draw

    read = activation_reader(subject.opened, [look.layer] if look.layer else None)
    page = ResultPage(folder)
    records = []
    with console.task("activations") as show:
        for i, image in enumerate(images.decoded(subject)):
            name = image.wanted.name
            for j, each in enumerate(read(subject.as_input(image.pixels[None])[0])):
                subject.opened.raise_if_stopped()
                file = f"{i:02d}-{j:02d}-{safe_name(each.layer)}"
                page.draw(draw(each, escape(name)), f"{file}.png", f"{name}: {each.layer}")
                if look.layer:
                    np.save(folder / f"{file}.npy", each.maps)
                records.append(
                    {
                        "file": name,
                        "layer": each.layer,
                        "shape": list(each.maps.shape),
                        "dead": np.flatnonzero(each.dead).tolist(),
                        "constant": np.flatnonzero(each.constant).tolist(),
                        "picture": f"{file}.png",
                    }
                )
            show(i + 1 + len(images.unreadable), len(images.wanted))
    record = subject.describe() | {"seed": look.seed, "unreadable": images.unreadable}
    record["activations"] = records
    page.finish("activations", record)


def draw_filters(
    subject: InspectedModel,
    images: ImageReader,  # noqa: ARG001 - all four take the same arguments
    look: VisualizeRequest,
    folder: Path,
    *,
    console: Console,
) -> None:
    """Draw an image that activates each filter most, for one layer or for three depths."""
    from cvtrain.plots.layers import draw_filters as draw

    if look.layer:
        layers = [find_layer(subject.opened, look.layer)]
    else:
        names = layers_with_filters(subject.opened)
        layers = list(dict.fromkeys((names[0], names[len(names) // 2], names[-1])))
    style = look.style or "book"
    page = ResultPage(folder)
    records = []
    for layer in layers:
        precision = _fastest_precision(subject, layer)
        with console.task(f"filters of {layer}") as show:
            found = filter_images(
                subject.opened,
                layer,
                style=style,
                pixel_range=subject.pixel_range,
                precision=precision,
                seed=look.seed,
                on_step=partial(_show_percent, show),
            )
        file = safe_name(layer)
        page.draw(draw(found), f"{file}.png", f"{layer}: {len(found.images)} filters")
        np.save(folder / f"{file}.npy", found.images)
        if found.dead.any():
            console.info(f"{layer}: {found.dead.sum()} of {len(found.dead)} filters are dead")
        records.append(
            {
                "layer": layer,
                "precision": precision,
                "filters": found.filters.tolist(),
                "values": found.values.astype(float).tolist(),
                "dead": found.filters[found.dead].tolist(),
                "picture": f"{file}.png",
                "images": f"{file}.npy",
            }
        )
    record = subject.describe() | {"style": style, "seed": look.seed, "filters": records}
    page.finish("filters", record)


def draw_depth_story(
    subject: InspectedModel,
    images: ImageReader,
    look: VisualizeRequest,
    folder: Path,
    *,
    console: Console,
) -> None:
    """Measure sparsity and similarity of the activations by depth."""
    from cvtrain.plots.layers import draw_depth

    seen = list(images.decoded(subject))
    pixels = subject.as_input(np.stack([image.pixels for image in seen]))
    labels = np.array([image.wanted.true for image in seen])
    with console.task("activations") as show:
        story = depth_story(
            subject.opened,
            pixels,
            labels,
            on_batch=lambda share: show(round(share * len(seen)), len(seen)),
        )
    page = ResultPage(folder)
    name = seen[0].wanted.name
    caption = f"{len(seen)} images, and one of them: {name}"
    page.draw(draw_depth(story, 0, name), "depth.png", caption)
    means = [each.mean(axis=1).tolist() for each in (story.sparsity, story.within, story.across)]
    rows = list(zip(story.layers, *means, strict=True))
    columns = ("layer", "share of zeros", "similarity within a class", "across classes")
    console.table(columns, [(layer, *(f"{mean:.2f}" for mean in means)) for layer, *means in rows])
    files = [image.wanted.name for image in seen]
    found: dict[str, Any] = {"unreadable": images.unreadable, "files": files}
    found["depth"] = [
        dict(zip(("layer", "sparsity", "within", "across"), row, strict=True)) for row in rows
    ]
    page.finish("activations by depth", subject.describe() | {"seed": look.seed} | found)


def _show_percent(show: Callable[[int, int], None], share: float) -> None:
    show(round(100 * share), 100)


def _fastest_precision(subject: InspectedModel, layer: str) -> str:
    """The precision for the many passes up to a layer: bfloat16 is exact enough for pictures."""
    network = keras.Model(subject.opened.network.input, subject.opened.layers[layer])
    if not all(type(each).__module__.startswith("keras.") for each in network.layers):
        return "float32"  # What cannot be restored from its config keeps the precision it has.
    choice = choose_precision(
        "auto",
        build=lambda precision: in_precision(network, precision),
        batch_size=8,
        device=subject.device,
        training=False,
        raise_if_stopped=subject.opened.raise_if_stopped,
    )
    return choice.precision
