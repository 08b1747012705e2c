"""Ways to break the method, one a line of code: each must make a test fail.

Some are what the authors' published code does where it leaves frames behind, some are likely slips.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One text of one file of `fvar/model`, replaced by another.

    Attributes:
        says: What the broken code does.
        file: Its path in that folder, without suffix.
        old: The text to replace, found exactly once.
        new: What stands there instead.
        select: Arguments for pytest that choose tests.
        tested_in: The test file that must find it; None: the file's own.
    """

    says: str
    file: str
    old: str
    new: str
    select: tuple[str, ...] = ("-m", "not slow")
    tested_in: str | None = None


CLUSTERING = [
    Mutation(
        "a boundary is crossed where it is reached",
        "clusterings/cumulative",
        "base[:, None] + parts, right=True)",
        "base[:, None] + parts, right=False)",
        tested_in="clustering",
    ),
    Mutation(
        "the last cluster ends after its first frame",
        "clustering",
        "torch.cat([cuts, last], dim=1)",
        "torch.cat([cuts, cuts[:, -1:] + 1 if cuts.shape[1] else last], dim=1)",
    ),
    Mutation(
        "a still video keeps its first K frames",
        "clustering",
        "even.boundaries(steps, lengths, num_clusters), cuts)",
        "torch.arange(1, num_clusters), cuts)",
    ),
    Mutation(
        "of equal steps the later is cut",
        "clusterings/slope",
        "largest_first = size.argsort(descending=True, stable=True)",
        "largest_first = len(size) - 1 - size.flip(0).argsort(descending=True, stable=True)",
        tested_in="clustering",
    ),
    Mutation(
        "distances are summed in float32",
        "clusterings/cumulative",
        "rising = steps.cumsum(0) - steps",
        "rising = steps.float().cumsum(0).long() - steps",
        tested_in="clustering",
    ),
    Mutation(
        "differing bits are counted in a byte",
        "clustering",
        "counts = in_bytes.sum(1, dtype=torch.int32)",
        "counts = in_bytes.sum(1, dtype=torch.uint8)",
    ),
    Mutation(
        "a zero counts as on",
        "clustering",
        ".numpy() > 0",
        ".numpy() >= 0",
    ),
    Mutation(
        "what is below zero counts as on",
        "clustering",
        ".numpy() > 0",
        ".numpy() != 0",
    ),
    Mutation(
        "bits that do not fill a byte's sum are not counted",
        "clustering",
        " + differing[:, whole:].sum(1, dtype=torch.int32)",
        "",
    ),
    Mutation(
        "several boundaries stay on one frame",
        "clusterings/cumulative",
        "apart = (raw - rank).cummax(dim=1).values + rank",
        "apart = raw",
        tested_in="clustering",
    ),
    Mutation(
        "boundaries run past the end",
        "clusterings/cumulative",
        "torch.minimum(torch.maximum(apart, rank), latest)",
        "torch.maximum(apart, rank)",
        tested_in="clustering",
    ),
    Mutation(
        "a boundary may come before its rank",
        "clusterings/cumulative",
        "torch.minimum(torch.maximum(apart, rank), latest)",
        "torch.minimum(apart, latest)",
        tested_in="clustering",
    ),
    Mutation(
        "a short video repeats its last frame only",
        "clustering",
        "repeated = ranks * lengths[:, None] // num_clusters",
        "repeated = torch.minimum(ranks, lengths[:, None] - 1)",
    ),
    Mutation(
        "clusters of a short video have two frames",
        "clustering",
        "short, repeated + 1,",
        "short, repeated + 2,",
    ),
    Mutation(
        "a video is searched from the first video's distances on",
        "clusterings/cumulative",
        "torch.searchsorted(rising, base[:, None] + parts",
        "torch.searchsorted(rising, parts",
        tested_in="clustering",
    ),
    Mutation(
        "steps are ranked over the whole batch",
        "clusterings/slope",
        "largest_first[video_of_frame[largest_first].argsort(stable=True)]",
        "largest_first",
        tested_in="clustering",
    ),
    Mutation(
        "random cuts come from the place in the batch",
        "clusterings/random",
        "manual_seed(key)",
        "manual_seed(video)",
        tested_in="clustering",
    ),
    Mutation(
        "random cuts prefer early frames",
        "clusterings/random",
        "torch.randperm(max(length - 1, 0), generator=generator)",
        "torch.randperm(max(length - 1, 0), generator=generator).clamp(max=length // 2)",
        tested_in="clustering",
    ),
    Mutation(
        "a mean is a sum",
        "averaging",
        "return member.to(dtype) / (stops - starts)[:, None].to(dtype)",
        "return member.to(dtype)",
        tested_in="clustering",
    ),
    Mutation(
        "clusters that lose the end of a video are accepted",
        "averaging",
        "[*starts, num_frames] == bounds",
        "[*starts] == bounds[:-1]",
        tested_in="clustering",
    ),
    Mutation(
        "one frame in a thousand is skipped",
        "averaging",
        "member = (frames >= starts[:, None])",
        "member = (frames % 1000 != 999) & (frames >= starts[:, None])",
        tested_in="engine",
    ),
]

SHIFT_AND_BACKBONE = [
    Mutation(
        "the shift is skipped for one video",
        "shift",
        "fold = x.shape[1] // FOLD_DIVISOR",
        "fold = x.shape[1] // FOLD_DIVISOR if (~layout.has_next).sum() > 1 else 0",
    ),
    Mutation(
        "channels that look ahead look back",
        "shift",
        "x[:, :fold].roll(-1, dims=0)",
        "x[:, :fold].roll(1, dims=0)",
    ),
    Mutation(
        "the last representation looks at the next video",
        "shift",
        "has_next[stops - 1] = False",
        "has_next[-1] = False",
    ),
    Mutation(
        "the first representation looks at the video before",
        "shift",
        "has_previous[stops - per_video] = False",
        "has_previous[0] = False",
    ),
    Mutation(
        "the skip connection is shifted too",
        "backbone",
        "entry.register_forward_pre_hook(shift)",
        "unit.register_forward_pre_hook(shift)",
    ),
    Mutation(
        "a shift stays after its call",
        "backbone",
        "with entry.register_forward_pre_hook(shift):",
        "if entry.register_forward_pre_hook(shift):",
    ),
    Mutation(
        "a block shifts before its second convolution",
        "networks/resnet",
        'block.get_submodule("conv1") for',
        'block.get_submodule("conv2") for',
        tested_in="backbone",
    ),
    Mutation(
        "every block of ResNet-101 shifts",
        "networks/resnet",
        "every = 2 if",
        "every = 1 if",
        ("-k", "right_blocks and resnet101"),
        tested_in="backbone",
    ),
    Mutation(
        "MobileNetV2's fourth stage ends early",
        "networks/mobilenet",
        "(3, 6, 13, 18)",
        "(3, 6, 13, 17)",
        tested_in="backbone",
    ),
    Mutation(
        "the stem is a block short",
        "networks/resnet",
        "num_stem_units=len(before) + sum(map(len, stages[:stage]))",
        "num_stem_units=len(before) + sum(map(len, stages[:stage])) - 1",
        tested_in="backbone",
    ),
]

ENGINE = [
    Mutation(
        "the step between two chunks is lost",
        "engine",
        "torch.cat([before, pattern[:1]])",
        "torch.cat([pattern[:1], pattern[:1]])",
    ),
    Mutation(
        "sweep 2 forgets the last chunk",
        "engine",
        "for chunk in assignment.chunks(video, self._sweep.chunk_frames):",
        "for chunk in (c := list(assignment.chunks(video, self._sweep.chunk_frames)))[:-1] or c:",
    ),
    Mutation(
        "sweep 3 forgets the last chunk",
        "engine",
        "for chunk in visited.chunks(video, self._sweep.chunk_frames):",
        "for chunk in list(visited.chunks(video, self._sweep.chunk_frames))[:-1]:",
    ),
    Mutation(
        "sweep 3 skips a chunk in a hundred",
        "engine",
        "for chunk in visited.chunks(video, self._sweep.chunk_frames):",
        "chunks = visited.chunks(video, self._sweep.chunk_frames)\n"
        "            for chunk in (c for at, c in enumerate(chunks) if at != 99):",
    ),
    Mutation(
        "the gradient is not divided by the size",
        "engine",
        "_weighted(matrix.T, by_video",
        "_weighted(matrix.T.sign(), by_video",
    ),
    Mutation(
        "a frame in two clusters gets the gradient of one",
        "engine",
        "_weighted(matrix.T, by_video",
        "_weighted(matrix.mul((matrix > 0).cumsum(0) == 1).T, by_video",
    ),
    Mutation(
        "every video gets the first one's gradient",
        "engine",
        "by_video[video][touched]",
        "by_video[0][touched]",
    ),
    Mutation(
        "a chunk touches a cluster too few",
        "averaging",
        "bisect_left(starts, chunk[-1] + 1)",
        "max(bisect_right(stops, chunk[0]) + 1, bisect_left(starts, chunk[-1] + 1) - 1)",
        tested_in="engine",
    ),
    Mutation(
        "the last chunk's gradient alone counts",
        "engine",
        "total.add_(part)",
        "total.copy_(part)",
    ),
    Mutation(
        "the chunked engine keeps the tape",
        "engine",
        '"chunked": _represent_chunked,',
        '"chunked": _represent_plain,',
    ),
    Mutation(
        "a training norm is given chunks",
        "engine",
        "if depends_on_batch(backbone.stem_modules()):\n        raise",
        "if backbone is None:\n        raise",
    ),
    Mutation(
        "the plain engine shows a training norm one chunk at a time",
        "engine",
        "if depends_on_batch(backbone.stem_modules()):\n        lengths",
        "if backbone is None:\n        lengths",
    ),
    Mutation(
        "the backward pass forgets autocast",
        "engine",
        "with torch.set_grad_enabled(tape), self._autocast:",
        "with torch.set_grad_enabled(tape):",
        tested_in="engine_composes",
    ),
    Mutation(
        "means are summed in the precision of the stem",
        "engine",
        "return torch.promote_types(x.dtype, torch.float32)",
        "return x.dtype",
        tested_in="engine_composes",
    ),
    Mutation(
        "kept outputs of one video are taken for another's",
        "engine",
        "self._cache.put(key, output",
        "self._cache.put((0, chunk[0]), output",
    ),
    Mutation(
        "outputs are kept beyond the budget",
        "activation_cache",
        "elif self._outputs and size <= self._left:",
        "elif self._outputs:",
        tested_in="engine_memory",
    ),
    Mutation(
        "tapes are kept beyond the budget",
        "activation_cache",
        "output.requires_grad and tape_bytes + reserved <= self._left",
        "output.requires_grad",
        tested_in="engine_memory",
    ),
    Mutation(
        "measuring a tape keeps it alive",
        "activation_cache",
        "return tensor.detach()",
        "return tensor",
        tested_in="engine_memory",
    ),
    Mutation(
        "a folded norm forgets its mean",
        "conv_bn_fusion",
        "inner = -mean if",
        "inner = 0 * mean if",
        tested_in="engine",
    ),
    Mutation(
        "a folded norm forgets its epsilon",
        "conv_bn_fusion",
        "torch.rsqrt(variance + norm.eps)",
        "torch.rsqrt(variance)",
        tested_in="engine",
    ),
    Mutation(
        "a norm that holds an activation is folded away",
        "conv_bn_fusion",
        "type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm)",
        "isinstance(module, BATCH_NORMS)",
    ),
    Mutation(
        "a norm is folded into a convolution that feeds something else",
        "conv_bn_fusion",
        "len(source.users) == times[name]",
        "times[name]",
    ),
    Mutation(
        "drawn frames do not stand for the others",
        "averaging",
        "if self.scale is not None:",
        "if self.scale is None:",
        tested_in="backward_fraction",
    ),
    Mutation(
        "a folded norm's scale is not trained",
        "conv_bn_fusion",
        "scale = norm.weight * torch",
        "scale = norm.weight.detach() * torch",
        tested_in="engine",
    ),
]

RECOGNIZER = [
    Mutation(
        "evaluation samples K frames instead of clustering all",
        "recognizer",
        "seen = represent(self.backbone, [clip], sweep)",
        "k = sweep.num_clusters\n"
        "        pictures = clip.pictures([j * clip.num_frames // k for j in range(k)])\n"
        "        seen = Representations(self.backbone.stem(pictures), (k,), None, None, 0)",
    ),
    Mutation(
        "the consensus is a sum",
        "recognizer",
        "video.mean(dim=0) for video",
        "video.sum(dim=0) for video",
    ),
    Mutation(
        "the consensus is the first representation",
        "recognizer",
        "video.mean(dim=0) for video",
        "video[0] for video",
    ),
    Mutation(
        "frozen norms thaw after an evaluation",
        "recognizer",
        "            norm.eval()\n",
        "            norm.train(mode)\n",
    ),
    Mutation(
        "partial freezes the first norm only",
        "recognizer",
        '"partial": norms[1:]',
        '"partial": norms[:1]',
    ),
    Mutation(
        "inference reports the closing zero as a distance",
        "recognizer",
        "steps[:-1].cpu().numpy()",
        "steps.cpu().numpy()",
    ),
    Mutation(
        "inference leaves a tape",
        "recognizer",
        "@torch.no_grad()\n    def infer",
        "def infer",
    ),
]

WEIGHTS_AND_BUILD = [
    Mutation(
        "code in a weights file is executed",
        "weights",
        "weights_only=True",
        "weights_only=False",
    ),
    Mutation(
        "unknown keys are ignored",
        "weights",
        "sorted(offered.keys() - wanted.keys())",
        "list[str]()",
    ),
    Mutation(
        "missing keys stay at random",
        "weights",
        "sorted(wanted.keys() - offered.keys() - counters)",
        "list[str]()",
    ),
    Mutation(
        "of two tensors of one name the last wins",
        "weights",
        "if state.setdefault(_plain_name(name), value) is not value:",
        "state[_plain_name(name)] = value\n        if value is None:",
    ),
    Mutation(
        "auto takes chunks also where a norm trains",
        "build",
        '"chunked" if clusters and not trains_norm else "plain"',
        '"chunked" if clusters else "plain"',
    ),
    Mutation(
        "a frozen stem trains",
        "build",
        "requires_grad_(not freezes_stem(config))",
        "requires_grad_(True)",
    ),
    Mutation(
        "a frozen stem's statistics drift",
        "build",
        'else "stem-frozen"',
        "else mode",
    ),
    Mutation(
        "pretrained statistics are trained away",
        "build",
        '"train" if config.weights == "none" else "frozen"',
        '"train"',
    ),
]

MUTATIONS = [*CLUSTERING, *SHIFT_AND_BACKBONE, *ENGINE, *RECOGNIZER, *WEIGHTS_AND_BUILD]
