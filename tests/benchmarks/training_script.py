"""A training script of the usual kind and size, for cost.py to convert; nobody runs it."""

import argparse
import time

import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset, random_split


class Block(nn.Module):
    """Two convolutions with a shortcut round them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        return F.relu(out + self.shortcut(x))


class Classifier(nn.Module):
    """A small residual network for images of three channels."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(Block(width, width), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(F.relu(self.stem(x)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.head(self.dropout(x))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a classifier on random images.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--log-interval", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint", default="checkpoint.pt")
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args()


def make_loaders(arguments: argparse.Namespace) -> tuple[DataLoader, DataLoader]:
    images = torch.randn(2048, 3, 32, 32)
    labels = torch.randint(0, 10, (2048,))
    training, validation = random_split(TensorDataset(images, labels), [1792, 256])
    train_loader = DataLoader(training, batch_size=arguments.batch_size, shuffle=True, drop_last=True)
    validation_loader = DataLoader(validation, batch_size=arguments.batch_size)
    return train_loader, validation_loader


def train(arguments, model, device, loader, optimizer, epoch):
    model.train()
    total, correct, seen = 0.0, 0, 0
    started = time.time()
    for index, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        output = model(images)
        loss = F.cross_entropy(output, labels, label_smoothing=0.1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), arguments.clip)
        optimizer.step()
        total += loss.item() * len(images)
        correct += (output.argmax(1) == labels).sum().item()
        seen += len(images)
        if index % arguments.log_interval == 0:
            print(f"epoch {epoch} [{seen}/{len(loader.dataset)}] loss {loss.item():.4f}")
    print(f"epoch {epoch}: loss {total / seen:.4f}, accuracy {correct / seen:.3f}, {time.time() - started:.1f} s")


@torch.no_grad()
def evaluate(model, device, loader):
    model.eval()
    total, correct = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        output = model(images)
        total += F.cross_entropy(output, labels, reduction="sum").item()
        correct += (output.argmax(1) == labels).sum().item()
    size = len(loader.dataset)
    print(f"validation: loss {total / size:.4f}, accuracy {correct / size:.3f}")
    return correct / size


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader, validation_loader = make_loaders(arguments)
    model = Classifier(classes=10).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=arguments.lr,
        momentum=arguments.momentum,
        weight_decay=arguments.weight_decay,
    )
    scheduler = CosineAnnealingLR(optimizer, T_max=arguments.epochs)
    first, best = 0, 0.0
    if arguments.resume:
        checkpoint = torch.load(arguments.checkpoint, map_location=device)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])
        first, best = checkpoint["epoch"] + 1, checkpoint["best"]
    for epoch in range(first, arguments.epochs):
        train(arguments, model, device, train_loader, optimizer, epoch)
        accuracy = evaluate(model, device, validation_loader)
        scheduler.step()
        if accuracy > best:
            best = accuracy
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                    "epoch": epoch,
                    "best": best,
                },
                arguments.checkpoint,
            )
    print(f"best accuracy: {best:.3f}")


if __name__ == "__main__":
    main()
