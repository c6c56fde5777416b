"""The book's augmented recipe as a careful PyTorch script: what a PyTorch user would run instead.

DataLoader with workers, JPEGs decoded at reduced size, bfloat16 autocast, channels_last, and the
whole augmentation as one grid_sample on the batch. Prints one JSON line per epoch: epoch, images,
seconds.

    python torch_script.py FOLDER --size 150 --batch 32 --epochs 3
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn


class ImageFolder(torch.utils.data.Dataset):
    """One folder per class; uint8 (3, size, size) and the label."""

    def __init__(self, folder, size):
        self.classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.files = [
            (path, label)
            for label, name in enumerate(self.classes)
            for path in sorted((folder / name).iterdir())
        ]
        self.size = size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        with Image.open(path) as image:
            image.draft("RGB", (self.size, self.size))
            image = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), label


def build_net(num_classes, size):
    """The first edition's convnet, with dropout."""
    stages, channels = [], 3
    for filters in (32, 64, 128, 128):
        stages += [nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
        channels, size = filters, (size - 2) // 2
    flat = channels * size * size
    head = [nn.Dropout(0.5), nn.Linear(flat, 512), nn.ReLU(), nn.Linear(512, num_classes)]
    return nn.Sequential(*stages, nn.Flatten(), *head)


def augment(images):
    """Flip, rotate, shift, shear and zoom the batch by one affine map per image."""
    count = len(images)

    def uniform(limit):
        return (2 * torch.rand(count) - 1) * limit

    angle, shear, zoom = torch.deg2rad(uniform(40.0)), uniform(0.2), 1 + uniform(0.2)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # grid_sample's coordinates are -1..1 across the image: a shift of 0.2 is 0.4 of them.
    rows = [
        torch.stack([mirror * (cos - shear * sin), -sin - shear * cos, uniform(0.4)], dim=1),
        torch.stack([mirror * sin, cos, uniform(0.4)], dim=1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, dim=1), images.shape, align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def main():
    """Train and print the time of each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="one folder per class")
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()

    data = ImageFolder(options.folder, options.size)
    loader = torch.utils.data.DataLoader(
        data,
        batch_size=options.batch,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    net = build_net(len(data.classes), options.size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-4, alpha=0.9, eps=1e-7)
    loss_function = nn.CrossEntropyLoss()

    for epoch in range(options.epochs):
        start = time.perf_counter()
        for pixels, labels in loader:
            images = augment(pixels.float().div_(255))
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_function(net(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds = time.perf_counter() - start
        print(json.dumps({"epoch": epoch + 1, "images": len(data), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
