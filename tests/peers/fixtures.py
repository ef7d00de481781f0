"""Writes what the published layers compute: logits, loss and gradients of one step, for the tests of the architectures.

    python -m venv env && env/bin/pip install torch torchvision keras
    env/bin/python tests/peers/fixtures.py

The nets are torchvision's own, Keras' own layers (on its torch backend), or PyTorch's layers put together as the paper has
them. Weights and clips are too large to be kept: both sides draw them from the same hash of a parameter's name and an
element's place. src/bin/train-export/arch/peers.rs is the other side.
"""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

CLASSES = 7


def uniform(name, count):
    """`count` numbers from -1 to 1 that `name` decides: SplitMix64 of its FNV-1a hash."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def value(name, shape):
    """The value of our parameter `name`."""
    shape = tuple(shape)
    u = uniform(name, int(np.prod(shape))).reshape(shape)
    if name.endswith(".weight") and len(shape) > 1:
        u = u * np.sqrt(3.0 / np.prod(shape[1:]))
    elif name.endswith((".weight", ".running_var")):
        u = 1.0 + 0.25 * u
    elif name != "clip":
        u = 0.1 * u
    return torch.from_numpy(u.astype(np.float32))


def set_all(pairs):
    """Gives each tensor the value of our parameter of that name."""
    with torch.no_grad():
        for name, tensor, shape in pairs:
            tensor.copy_(value(name, shape or tensor.shape).reshape(tensor.shape))


def norm(name, layer):
    parts = {"weight": layer.weight, "bias": layer.bias}
    parts |= {"running_mean": layer.running_mean, "running_var": layer.running_var}
    return [(f"{name}.{suffix}", tensor, None) for suffix, tensor in parts.items()]


def weighted(name, layer):
    pairs = [(f"{name}.weight", layer.weight, None)]
    return pairs + ([(f"{name}.bias", layer.bias, None)] if layer.bias is not None else [])


def step(arch, shape, net, pairs):
    """What `net` computes once our parameters have their values."""
    set_all(pairs)
    return computed(arch, shape, net, [(name, tensor) for name, tensor, _ in pairs])


def computed(arch, shape, net, tensors):
    """Logits by the running statistics and what of their loss reaches each parameter; then the loss by those of the batch.
    (Through those, of so few values, gradients would be mostly rounding errors.)"""
    clips, labels = value("clip", shape), torch.arange(shape[0]) % CLASSES
    net.eval()
    logits = net(clips)
    F.cross_entropy(logits, labels).backward()
    trained = [(name, tensor.grad.double()) for name, tensor in tensors if tensor.grad is not None]
    gradients = {name: (grad.sum().item(), grad.norm().item()) for name, grad in trained if "running" not in name}
    net.train()
    with torch.no_grad():
        loss = F.cross_entropy(net(clips), labels).item()
    print(f"{arch}: loss {loss:.4f}, {len(gradients)} gradients")
    return {
        "arch": arch,
        "shape": list(shape),
        "logits": [round(x, 7) for x in logits.flatten().tolist()],
        "loss": loss,
        "gradients": {name: [float(f"{x:.7g}") for x in both] for name, both in gradients.items()},
    }


def tran(factorised):
    """torchvision's R(2+1)D-18 and R3D-18."""
    make = torchvision.models.video.r2plus1d_18 if factorised else torchvision.models.video.r3d_18
    net = make(weights=None, num_classes=CLASSES)
    pairs = []
    if factorised:
        pairs += weighted("stem.spatial", net.stem[0]) + norm("stem.spatial.norm", net.stem[1])
        pairs += weighted("stem.temporal", net.stem[3]) + norm("stem.norm", net.stem[4])
    else:
        pairs += weighted("stem.conv", net.stem[0]) + norm("stem.norm", net.stem[1])
    for stage in range(1, 5):
        for number, block in enumerate(getattr(net, f"layer{stage}"), 1):
            name = f"stage{stage}.block{number}"
            for n, (conv, batch_norm) in enumerate([block.conv1[:2], block.conv2[:2]], 1):
                if factorised:
                    pairs += weighted(f"{name}.conv{n}.spatial", conv[0]) + norm(f"{name}.conv{n}.spatial.norm", conv[1])
                    pairs += weighted(f"{name}.conv{n}.temporal", conv[3])
                else:
                    pairs += weighted(f"{name}.conv{n}", conv)
                pairs += norm(f"{name}.norm{n}", batch_norm)
            if block.downsample is not None:
                pairs += weighted(f"{name}.shortcut", block.downsample[0])
                pairs += norm(f"{name}.shortcut.norm", block.downsample[1])
    return net, pairs + weighted("head", net.fc)


class Hara(nn.Module):
    """The 3D ResNet of Hara et al., 2018, after their code: shortcuts A are every other position and zeros."""

    def __init__(self, blocks, bottleneck, projection, width):
        super().__init__()
        self.bottleneck, self.projection = bottleneck, projection
        self.parts, self.pairs, self.plan = nn.ModuleDict(), [], []
        self.add("stem.conv", nn.Conv3d(3, width, 7, (1, 2, 2), 3, bias=False), "stem.norm")
        given = width
        for stage, count in enumerate(blocks, 1):
            for number in range(1, count + 1):
                name, inner = f"stage{stage}.block{number}", width << (stage - 1)
                outer = 4 * inner if bottleneck else inner
                stride = 2 if stage > 1 and number == 1 else 1
                sizes = [(inner, 1, 1), (inner, 3, stride), (outer, 1, 1)] if bottleneck else [(inner, 3, stride), (inner, 3, 1)]
                before = given
                for n, (channels, size, s) in enumerate(sizes, 1):
                    conv = nn.Conv3d(before, channels, size, s, size // 2, bias=False)
                    self.add(f"{name}.conv{n}", conv, f"{name}.conv{n}.norm")
                    before = channels
                changes = stride != 1 or given != outer
                if changes and projection:
                    self.add(f"{name}.shortcut", nn.Conv3d(given, outer, 1, stride, bias=False), f"{name}.shortcut.norm")
                self.plan.append((name, len(sizes), stride, outer, changes))
                given = outer
        self.head = nn.Linear(given, CLASSES)
        self.pairs += weighted("head", self.head)

    def add(self, name, conv, norm_name):
        batch_norm = nn.BatchNorm3d(conv.out_channels)
        self.parts[name.replace(".", "/")], self.parts[norm_name.replace(".", "/")] = conv, batch_norm
        self.pairs += weighted(name, conv) + norm(norm_name, batch_norm)

    def part(self, name, x):
        return self.parts[name.replace(".", "/")](x)

    def forward(self, x):
        x = F.relu(self.part("stem.norm", self.part("stem.conv", x)))
        x = F.max_pool3d(x, 3, 2, 1)
        for name, layers, stride, outer, changes in self.plan:
            y = x
            for n in range(1, layers + 1):
                y = self.part(f"{name}.conv{n}.norm", self.part(f"{name}.conv{n}", y))
                y = F.relu(y) if n < layers else y
            if changes and self.projection:
                x = self.part(f"{name}.shortcut.norm", self.part(f"{name}.shortcut", x))
            elif changes:
                x = F.avg_pool3d(x, 1, stride)
                zeros = torch.zeros(x.size(0), outer - x.size(1), *x.shape[2:])
                x = torch.cat([x, zeros], 1)
            x = F.relu(y + x)
        return self.head(x.mean((2, 3, 4)))


class Inception(nn.Module):
    """I3D after DeepMind's code: TensorFlow's SAME padding, logits averaged over time."""

    BLOCKS = {
        "3b": [64, 96, 128, 16, 32, 32], "3c": [128, 128, 192, 32, 96, 64], "4b": [192, 96, 208, 16, 48, 64],
        "4c": [160, 112, 224, 24, 64, 64], "4d": [128, 128, 256, 24, 64, 64], "4e": [112, 144, 288, 32, 64, 64],
        "4f": [256, 160, 320, 32, 128, 128], "5b": [256, 160, 320, 32, 128, 128], "5c": [384, 192, 384, 48, 128, 128],
    }  # fmt: skip

    def __init__(self, width):
        super().__init__()
        self.parts, self.pairs = nn.ModuleDict(), []
        scaled = lambda channels: -(-channels * width // 64)
        self.add("1a", 3, scaled(64), 7, 2)
        self.add("2b", scaled(64), scaled(64), 1, 1)
        self.add("2c", scaled(64), scaled(192), 3, 1)
        given = scaled(192)
        for name, channels in self.BLOCKS.items():
            one, narrow, wide, narrow5, wide5, pooled = map(scaled, channels)
            self.add(f"{name}.branch0", given, one, 1, 1)
            self.add(f"{name}.branch1.narrow", given, narrow, 1, 1)
            self.add(f"{name}.branch1", narrow, wide, 3, 1)
            self.add(f"{name}.branch2.narrow", given, narrow5, 1, 1)
            self.add(f"{name}.branch2", narrow5, wide5, 3, 1)
            self.add(f"{name}.branch3", given, pooled, 1, 1)
            given = one + wide + wide5 + pooled
        self.head = nn.Conv3d(given, CLASSES, 1)
        self.pairs.append(("head.weight", self.head.weight, (CLASSES, given)))
        self.pairs.append(("head.bias", self.head.bias, None))

    def add(self, name, given, channels, size, stride):
        conv, batch_norm = nn.Conv3d(given, channels, size, stride, bias=False), nn.BatchNorm3d(channels, eps=1e-3)
        self.parts[f"{name.replace('.', '/')}/conv"], self.parts[f"{name.replace('.', '/')}/norm"] = conv, batch_norm
        self.pairs += weighted(f"{name}.conv", conv) + norm(f"{name}.norm", batch_norm)

    @staticmethod
    def same(x, kernel, stride, fill):
        pads = []
        for n, k, s in zip(x.shape[2:], kernel, stride):
            total = max((-(-n // s) - 1) * s + k - n, 0)
            pads = [total // 2, total - total // 2] + pads
        return F.pad(x, pads, value=fill)

    def unit(self, name, x):
        conv = self.parts[f"{name.replace('.', '/')}/conv"]
        x = conv(self.same(x, conv.kernel_size, conv.stride, 0.0))
        return F.relu(self.parts[f"{name.replace('.', '/')}/norm"](x))

    def pool(self, x, kernel, stride):
        return F.max_pool3d(self.same(x, kernel, stride, float("-inf")), kernel, stride)

    def forward(self, x):
        x = self.pool(self.unit("1a", x), (1, 3, 3), (1, 2, 2))
        x = self.pool(self.unit("2c", self.unit("2b", x)), (1, 3, 3), (1, 2, 2))
        for name in self.BLOCKS:
            if name == "4b":
                x = self.pool(x, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                x = self.pool(x, (2, 2, 2), (2, 2, 2))
            branches = [self.unit(f"{name}.branch0", x)]
            branches += [self.unit(f"{name}.branch{n}", self.unit(f"{name}.branch{n}.narrow", x)) for n in (1, 2)]
            x = torch.cat(branches + [self.unit(f"{name}.branch3", self.pool(x, (3, 3, 3), (1, 1, 1)))], 1)
        x = self.head(F.avg_pool3d(x, (2, 7, 7), 1))
        return x.flatten(3).squeeze(3).mean(2)


class Keras(nn.Module):
    """Keras layers, channels last, that our parameters are given to; `pairs` is filled as they are used first."""

    def __init__(self):
        super().__init__()
        self.layers, self.pairs = {}, []

    def layer(self, name, make, x, parts):
        """Applies the layer `name`, whose weights are `parts`: our suffix, our shape of the layer's value, and the way there."""
        if name not in self.layers:
            layer = self.layers[name] = make()
            layer.build(x.shape)
            for variable, (suffix, ours) in zip(layer.weights, parts):
                self.pairs.append((f"{name}{suffix}", variable, ours))
        return self.layers[name](x, training=self.training) if isinstance(
            self.layers[name], keras.layers.BatchNormalization
        ) else self.layers[name](x)


def from_conv(kernel):
    """A Keras kernel [..., C, F] as ours, [F, C, ...]."""
    rank = kernel.dim()
    return kernel.permute(rank - 1, rank - 2, *range(rank - 2))


class Tutorial(Keras):
    """The net of TensorFlow's tutorial, of Keras' own layers."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def conv(self, name, x, filters, size):
        parts = [(".weight", from_conv), (".bias", None)]
        spatial = lambda: keras.layers.Conv3D(filters, (1, size, size), padding="same")
        temporal = lambda: keras.layers.Conv3D(filters, (3, 1, 1), padding="same")
        x = self.layer(f"{name}.spatial", spatial, x, parts)
        return self.layer(f"{name}.temporal", temporal, x, parts)

    def norm(self, name, x):
        return self.layer(name, keras.layers.LayerNormalization, x, [(".weight", None), (".bias", None)])

    def half(self, x):
        n, t, h, w, c = x.shape
        return keras.layers.Resizing(h // 2, w // 2)(x.reshape(n * t, h, w, c)).reshape(n, t, h // 2, w // 2, c)

    def forward(self, clips):
        x = clips.permute(0, 2, 3, 4, 1)
        x = self.conv("stem", x, self.width, 7)
        suffixes = [(".weight", None), (".bias", None), (".running_mean", None), (".running_var", None)]
        x = F.relu(self.layer("stem.norm", keras.layers.BatchNormalization, x, suffixes))
        for stage in range(1, 5):
            name, channels = f"stage{stage}", self.width << (stage - 1)
            x = self.half(x)
            y = F.relu(self.norm(f"{name}.norm1", self.conv(f"{name}.conv1", x, channels, 3)))
            y = self.norm(f"{name}.norm2", self.conv(f"{name}.conv2", y, channels, 3))
            if x.shape[-1] != channels:
                ours = lambda kernel: kernel.t()[:, :, None, None, None]
                x = self.layer(f"{name}.project", lambda: keras.layers.Dense(channels), x, [(".weight", ours), (".bias", None)])
                x = self.norm(f"{name}.project.norm", x)
            x = x + y
        x = x.mean((1, 2, 3))
        return self.layer("head", lambda: keras.layers.Dense(CLASSES), x, [(".weight", lambda k: k.t()), (".bias", None)])


class Recurrent(Keras):
    """convlstm-edge with Keras' ConvLSTM2D; the logits are those of the last frame."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def block(self, name, x, filters, size, stride, norm_name, relu=True):
        n, t, h, w, c = x.shape
        ours = lambda kernel: from_conv(kernel)[:, :, None]
        # PyTorch's padding: the same at both ends.
        padded = F.pad(x.reshape(n * t, h, w, c), [0, 0, size // 2, size // 2, size // 2, size // 2])
        make = lambda: keras.layers.Conv2D(filters, size, stride, use_bias=False)
        x = self.layer(name, make, padded, [(".weight", ours)])
        x = x.reshape(n, t, *x.shape[1:])
        suffixes = [(".weight", None), (".bias", None), (".running_mean", None), (".running_var", None)]
        x = self.layer(norm_name, lambda: keras.layers.BatchNormalization(epsilon=1e-5), x, suffixes)
        return F.relu(x) if relu else x

    def forward(self, clips):
        x, filters = clips.permute(0, 2, 3, 4, 1), 4 * self.width
        for n, size in [(1, 5), (2, 3), (3, 3)]:
            x = self.block(f"stem{n}", x, self.width << (n - 1), size, 2, f"stem{n}.norm")
        y = self.block("block.conv1", x, filters, 3, 1, "block.norm1")
        x = F.relu(x + self.block("block.conv2", y, filters, 3, 1, "block.norm2", relu=False))
        parts = [(".input.weight", lambda k: from_conv(k)[:, :, None]), (".recurrent.weight", lambda k: from_conv(k)[:, :, None])]
        make = lambda: keras.layers.ConvLSTM2D(filters, 3, padding="same", return_sequences=True)
        x = self.layer("lstm", make, x, parts + [(".input.bias", None)])
        x = self.block("top", x, 2 * filters, 1, 1, "top.norm")
        x = x.mean((2, 3))
        x = self.layer("head", lambda: keras.layers.Dense(CLASSES), x, [(".weight", lambda k: k.t()), (".bias", None)])
        return x[:, -1]


class Trailer(Keras):
    """convlstm-trailer of Keras' own layers, channels first as its source has it where the norm goes over columns; the logits
    are those of the last frame."""

    def __init__(self, width, gates, columns):
        super().__init__()
        # Keras 2's hard sigmoid; Keras 3 has its own under that name.
        self.gates = (lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)) if gates == "hard" else "hard_sigmoid"
        self.width, self.columns = width, columns

    def lstm(self, name, x, filters):
        ours = lambda kernel: from_conv(kernel)[:, :, None]
        parts = [(".input.weight", ours), (".recurrent.weight", ours), (".input.bias", None)]
        make = lambda: keras.layers.ConvLSTM2D(
            filters, 3, padding="same", return_sequences=True, recurrent_activation=self.gates
        )
        return self.layer(name, make, x, parts)

    def pool(self, x, side):
        return keras.layers.MaxPooling3D((1, side, side))(x)

    def dense(self, name, x, features, ours):
        return self.layer(name, lambda: keras.layers.Dense(features), x, [(".weight", ours), (".bias", None)])

    def forward(self, clips):
        x = clips.permute(0, 2, 3, 4, 1)
        suffixes = [(".weight", None), (".bias", None), (".running_mean", None), (".running_var", None)]
        for name, filters, side in [("lstm1", self.width, 2), ("lstm2", -(-self.width // 2), 3)]:
            x = self.lstm(name, x, filters)
            norm = lambda: keras.layers.BatchNormalization(axis=3 if self.columns else -1)
            x = self.pool(self.layer(f"{name}.norm", norm, x, suffixes), side)
        logits = []
        for category in range(1, CLASSES + 1):
            name = f"category{category}"
            y = self.pool(self.lstm(f"{name}.lstm", x, -(-self.width // 4)), 2)
            # Flattened channels first.
            n, t, h, w, c = y.shape
            y = y.permute(0, 1, 4, 2, 3).reshape(n, t, -1)
            y = self.dense(f"{name}.dense1", y, 512, lambda k: k.t().reshape(512, c, 1, h, w))
            y = self.dense(f"{name}.dense2", y, 32, lambda k: k.t().reshape(32, 512, 1, 1, 1))
            logits.append(self.dense(f"{name}.dense3", y, 1, lambda k: k.t()))
        return torch.cat(logits, -1)[:, -1]


def keras_step(arch, shape, net):
    """As `step`, for Keras' variables, which hold their values in another order of axes."""
    net.eval()
    with torch.no_grad():
        net(value("clip", shape))
    tensors = []
    for name, variable, ours in net.pairs:
        tensor = variable.value
        with torch.no_grad():
            view = ours(tensor) if ours else tensor
            view.copy_(value(name, view.shape))
        tensors.append((name, tensor))
    return computed(arch, shape, net, tensors)


def main():
    torch.manual_seed(0)
    folder = pathlib.Path(__file__).parent
    small = (2, 3, 8, 32, 32)
    fixtures = [
        step("r2plus1d-18", small, *tran(True)),
        step("r3d-18", small, *tran(False)),
    ]
    for arch, blocks, bottleneck, projection in [
        ("resnet3d-18(width=16)", [2, 2, 2, 2], False, False),
        ("resnet3d-34(width=8,projection=true)", [3, 4, 6, 3], False, True),
        ("resnet3d-50(width=8)", [3, 4, 6, 3], True, True),
    ]:
        net = Hara(blocks, bottleneck, projection, 16 if "18" in arch else 8)
        # Smaller pictures end as one pixel, of which a batch of two has no statistics to speak of.
        fixtures.append(step(arch, (2, 3, 16, 80, 80), net, net.pairs))
    net = Inception(8)
    fixtures.append(step("i3d-rgb(width=8)", (2, 3, 10, 224, 224), net, net.pairs))
    fixtures.append(keras_step("r2plus1d-tutorial(width=8)", (2, 3, 5, 32, 48), Tutorial(8)))
    fixtures.append(keras_step("convlstm-edge(width=4)", (2, 3, 6, 32, 40), Recurrent(4)))
    for gates, columns in [("hard", False), ("hard3", True)]:
        options = [f"gates={gates}"] * (gates != "hard") + ["norm=columns"] * columns
        arch = f"convlstm-trailer({','.join(['width=4'] + options)})"
        fixtures.append(keras_step(arch, (2, 3, 6, 24, 36), Trailer(4, gates, columns)))
    (folder / "layers.json").write_text(json.dumps(fixtures, indent=0) + "\n")


if __name__ == "__main__":
    main()
