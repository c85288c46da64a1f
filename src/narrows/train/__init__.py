"""The only training loop: a task with a torch model and a loss, trained, stopped and resumed."""

from narrows.train.checkpoint import Epoch as Epoch
from narrows.train.checkpoint import load_weights as load_weights
from narrows.train.loaders import ArrayLoader as ArrayLoader
from narrows.train.loaders import Loader as Loader
from narrows.train.loaders import Mixup as Mixup
from narrows.train.loaders import Stages as Stages
from narrows.train.loaders import crop_and_flip as crop_and_flip
from narrows.train.loop import Prepare as Prepare
from narrows.train.loop import Trained as Trained
from narrows.train.loop import outputs as outputs
from narrows.train.loop import score as score
from narrows.train.loop import train as train
from narrows.train.settings import TrainSettings as TrainSettings
from narrows.train.task import TrainingTask as TrainingTask
from narrows.train.task import cross_entropy as cross_entropy
from narrows.train.task import squared_hinge as squared_hinge
from narrows.train.task import training_task as training_task
