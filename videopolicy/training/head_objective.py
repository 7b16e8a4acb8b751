"""What a head on an image backbone minimises; knows of no video model, which would take seconds more to import."""

from dataclasses import replace

from torch import Tensor

from videopolicy.backbones.image import ImageBackbone
from videopolicy.batch import Counts
from videopolicy.data.appearance import shown
from videopolicy.data.augment import AugmentDraws, augmented, augmented_labels
from videopolicy.data.backdrop import repainted
from videopolicy.data.copy_paste import CopyPaste
from videopolicy.data.limbs import reached_for
from videopolicy.heads.coordinates import CoordinateHead
from videopolicy.heads.head import Targets
from videopolicy.heads.heatmap import HeatmapHead
from videopolicy.training.balance import Balance, LossBalance
from videopolicy.training.objective import Objective


class HeadObjective(Objective):
    """An image backbone's features to a head's losses, of pictures and pixel labels as they were augmented."""

    def __init__(
        self,
        backbone: ImageBackbone,
        head: HeatmapHead | CoordinateHead,
        loss_balance: Balance,
        copies: CopyPaste | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.copies = backbone, head, copies
        self.balance = LossBalance(loss_balance, head.terms)

    def counted(self, batch: dict[str, Tensor], draws: AugmentDraws) -> Counts:
        labels = batch if draws.H is None else augmented_labels(batch, draws.H, self.backbone.image_size)
        return Targets.of(labels).count()

    def forward(self, batch: dict[str, Tensor], draws: AugmentDraws, counts: Counts | None = None) -> dict[str, Tensor]:
        if self.copies is not None and draws.copy is not None:
            batch = {**batch, "frames": self.copies.paste(batch["frames"], draws.copy)}
        if draws.backdrop is not None:
            batch = {**batch, "frames": repainted(batch["frames"], batch["backdrop"], draws.backdrop)}
        if draws.H is not None:
            batch = augmented(batch, draws.H, self.backbone.image_size)
        if draws.limb is not None:
            batch = {**batch, "frames": reached_for(batch["frames"], batch["start_pixel"], draws.limb)}
        if draws.look is not None:
            batch = {**batch, "frames": shown(batch["frames"], draws.look)}
        features = self.backbone(batch["frames"][:, 0], batch["start_pixel"], batch.get("start_height"))
        losses = self.head.loss(self.head(features), replace(Targets.of(batch), counts=counts))
        return {**losses, "total": self.balance(losses)}
