"""Train the demo's network on scikit-learn's digits and save it the way people save such things.

    uv run python benchmarks/train_demo.py      (about two minutes on two cores)

timm's smallest EfficientNet, 10 classes, digits enlarged to 64 x 64 in three equal channels. The
checkpoint has a wrapper, `module.` prefixes as nn.DataParallel leaves them, and no word of what the
network is: that is for archfind to find out.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

OUT = Path(__file__).parents[1] / "archfind" / "demo" / "001.pth"
EPOCHS, BATCH, SIDE = 12, 64, 64


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test images [n, 3, 64, 64], normalised as timm's config says, and labels [n]."""
    data, target = load_digits(return_X_y=True)
    images = torch.tensor(data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    config = timm.get_pretrained_cfg("test_efficientnet")
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (config.mean, config.std))
    images = (images.expand(-1, 3, -1, -1) - mean) / std
    labels = torch.tensor(target)
    train, test = train_test_split(range(len(labels)), test_size=0.25, random_state=0)
    return images[train], labels[train], images[test], labels[test]


def main() -> None:
    """Train, report the test accuracy, write the checkpoint."""
    torch.manual_seed(0)
    train_x, train_y, test_x, test_y = digits()
    network = timm.create_model("test_efficientnet", num_classes=10)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.01)
    steps = EPOCHS * (len(train_y) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(train_y)).split(BATCH)[: len(train_y) // BATCH]:
            loss = F.cross_entropy(network(train_x[batch]), train_y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy = evaluate(network, test_x, test_y)
        print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}")
    state = {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save({"epoch": EPOCHS, "best_acc1": round(accuracy, 4), "state_dict": state}, OUT)


def evaluate(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of `labels` that the network gets right."""
    network.eval()
    with torch.inference_mode():
        return (network(images).argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    main()
