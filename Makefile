# The two commands of a newcomer are `make demo` and `make test`; `make` alone lists the rest.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
STEP = $(RUN) python -m eval.step runs/demo
# Two processes of one thread each: on two cores a quarter faster than one of two. (accelerate's own launcher starts one.)
LAUNCH_TWO := OMP_NUM_THREADS=1 ACCELERATE_USE_CPU=true python -m torch.distributed.run --standalone --nproc_per_node 2 --
WEIGHTS := weights/svd-tiny/README.md
# One process: what `accelerate launch` would start, without a launcher that holds 0.7 GiB beside it.
LAUNCH := python

unexport PYTHONDONTWRITEBYTECODE  # compiled once, a process starts in half the time

SUBMAKE := $(MAKE)  # under another name, or `make -n` would run the line that holds it

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-scratch svd-tiny test faults lint bench report smoke clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

setup: .venv/ready  ## make .venv with the pinned packages, and check headless rendering; seconds when done before

.venv/ready: pyproject.toml constraints.txt scripts/check_gl.py scripts/first_scene.py
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11, or name it: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "installing into .venv: two to five minutes, 8 GB"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[sim,robot,dev]' -c constraints.txt
	$(BIN)/python scripts/check_gl.py
	$(BIN)/python scripts/first_scene.py
	touch .venv/ready

# Extras that only tests need here: DeepSpeed, whose import says on a CPU alone what a newcomer need not read, Rerun, and
# what drives a Chromium.
.venv/extras: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[rerun,zero,browser]' -c constraints.txt
	touch .venv/extras

demo: setup  ## the main job on a laptop: collect, stage one, stage two twice, roll out, report; resumes when run again
	@$(STEP) collect --output data/left_half/meta/info.json configs/demo/collect.yaml -- python -m eval.collect --config_path configs/demo/collect.yaml
	@$(STEP) video --after collect --output runs/demo/video/latest configs/demo/video.yaml $(WEIGHTS) -- $(LAUNCH) train_stages/video.py --config_path configs/demo/video.yaml
	@$(STEP) joint --after video --output runs/demo/joint_para/latest --output runs/demo/joint_global/latest configs/demo/joint_para.yaml configs/demo/joint_global.yaml -- $(SUBMAKE) --no-print-directory -j2 joint-para joint-global
	@$(STEP) rollout --after joint --output runs/demo/rollout/episodes.jsonl configs/demo/rollout.yaml -- python -m eval.rollout --config_path configs/demo/rollout.yaml
	@$(RUN) python -m eval.report runs/demo

# Both heads train at the same time with one thread each: on two cores that is a quarter faster than one after the other.
.PHONY: joint-para joint-global
joint-para joint-global: joint-%:
	@$(RUN) $(LAUNCH) train_stages/joint.py --config_path configs/demo/joint_$*.yaml

# The same stages without the pretrained UNet, its weights random or in the form that its pretraining began with (copying
# the first frame): what the pretraining is worth. Uses the demo's demonstrations.
SCRATCH = $(RUN) python -m eval.step runs/demo_$*
.PHONY: demo-random demo-copying
demo-scratch: demo-random demo-copying  ## the demo's pixel-aligned policy again, without the pretrained video model, from two starts
demo-random demo-copying: demo-%: demo
	@$(SCRATCH) video --output runs/demo_$*/video/latest configs/demo/video.yaml data/left_half/meta/info.json $(WEIGHTS) -- $(LAUNCH) train_stages/video.py --config_path configs/demo/video.yaml --run runs/demo_$*/video --backbone.weights $*
	@$(SCRATCH) joint --after video --output runs/demo_$*/joint_para/latest configs/demo/joint_para.yaml -- $(LAUNCH) train_stages/joint.py --config_path configs/demo/joint_para.yaml --run runs/demo_$*/joint_para --init_from runs/demo_$*/video --train.n_threads 2
	@$(SCRATCH) rollout --after joint --output runs/demo_$*/rollout/episodes.jsonl configs/demo/rollout_scratch.yaml -- python -m eval.rollout --config_path configs/demo/rollout_scratch.yaml --output runs/demo_$*/rollout --policies "{svd+para: runs/demo_$*/joint_para}"
	@$(RUN) python -m eval.report runs/demo_$*

svd-tiny: setup  ## make weights/svd-tiny anew: corpus, VAE, UNet, export, evaluation; an hour and three quarters, resumes when run again
	$(RUN) python -m eval.collect --config_path configs/pretrain/corpus.yaml
	$(RUN) $(LAUNCH_TWO) train_stages/vae.py --config_path configs/pretrain/vae.yaml
	$(RUN) $(LAUNCH_TWO) train_stages/video.py --config_path configs/pretrain/unet.yaml
	$(RUN) python -m train_stages.export --config_path configs/pretrain/export.yaml --overwrite true
# Three sampling steps come near the mean of what may happen, which is held against a copy; twelve give a sample, which must move.
	$(RUN) python -m eval.video --model weights/svd-tiny --scratch runs/pretrain/vae/pipeline --n_sample_steps 3 --require '[psnr]'
	$(RUN) python -m eval.video --model weights/svd-tiny --output runs/eval_video_sampled --require '[motion]'

# A video model of 30 M parameters: pretrained, fine-tuned and tuned jointly on a GPU, rolled out on any machine.
.PHONY: svd-mid
svd-mid: setup  ## a video model between svd-tiny and SVD, from corpus to rollouts; training wants a GPU; resumes when run again
	$(RUN) python -m eval.collect --config_path configs/pretrain/corpus.yaml
	$(RUN) python -m eval.collect --config_path configs/demo/collect.yaml
	$(RUN) $(LAUNCH) train_stages/vae.py --config_path configs/mid/vae.yaml
	$(RUN) $(LAUNCH) train_stages/video.py --config_path configs/mid/unet.yaml
	$(RUN) python -m train_stages.export --config_path configs/mid/export.yaml --overwrite true
	$(RUN) $(LAUNCH) train_stages/video.py --config_path configs/mid/video.yaml
	for head in para regression; do \
		$(RUN) $(LAUNCH) train_stages/joint.py --config_path configs/mid/joint_$$head.yaml && \
		$(RUN) python -m videopolicy.export --run runs/mid/joint_$$head --output exported/mid_$$head --file_mib 15 --overwrite true || exit; \
	done
	$(RUN) python -m eval.rollout --config_path configs/mid/rollout.yaml
	$(RUN) python -m eval.report runs/mid

# The out-of-distribution axes. Each is a target of its own (`make ood-left_right`): its training set's four policies, two
# at a time, then their episodes under both executors. `make ood` is all of them, and the report.
AXES := left_right near_far viewpoint hemisphere distractors corners_32 dense_64
SET_left_right := left
SET_near_far := near
SET_viewpoint := dense_64
SET_hemisphere := hemisphere
SET_distractors := dense_64
SET_corners_32 := corners_32
SET_dense_64 := dense_64
MORE_dense_64 := train_fewer
MORE_distractors := train_copies
OOD = $(RUN) python -m eval.step runs/ood
OOD_POLICIES := para regression para_camera regression_camera
OOD_CONFIGS := $(OOD_POLICIES:%=configs/ood/%.yaml)
# The same recipes from fewer of the 64 demonstrations, for the curve over their number.
OOD_FEWER := $(foreach n,8 16 32,para-$(n) regression-$(n))
# And once more with a second bowl in up to half of the pictures, for the distractors, where one stands.
OOD_COPIES := para_copies regression_copies
OOD_HEADS := attention_pool spatial_softmax tracks act diffusion
.PHONY: ood ood-grid ood-heads ood-svd ood-svd-para ood-svd-global $(AXES:%=ood-%) ood-train $(OOD_POLICIES:%=ood-train-%) $(OOD_FEWER:%=ood-train-%) $(OOD_COPIES:%=ood-train-%) $(OOD_HEADS:%=ood-train-%)
ood: $(AXES:%=ood-%)  ## the out-of-distribution axes on the light backbone: hours on two cores, resumes when run again
	@$(RUN) python -m eval.ood runs/ood

ood-grid: setup
	@$(OOD) collect_grid --output data/grid/meta/info.json configs/ood/grid.yaml -- python -m eval.collect --config_path configs/ood/grid.yaml

$(AXES:%=ood-%): ood-%: ood-grid
	@$(if $(filter hemisphere,$*),$(OOD) collect_views --output data/views/meta/info.json configs/ood/views.yaml -- python -m eval.collect --config_path configs/ood/views.yaml)
	@$(OOD) train_$(SET_$*) --after $(if $(filter hemisphere,$*),collect_views,collect_grid) $(OOD_POLICIES:%=--output runs/ood/$(SET_$*)/%/latest) $(OOD_CONFIGS) -- $(SUBMAKE) --no-print-directory -j2 ood-train SET=$(SET_$*)
	@$(if $(filter dense_64,$*),$(OOD) train_fewer --after collect_grid $(OOD_FEWER:%=--output runs/ood/dense_64/%/latest) configs/ood/para.yaml configs/ood/regression.yaml -- $(SUBMAKE) --no-print-directory -j2 ood-train SET=dense_64 "OOD_POLICIES=$(OOD_FEWER)")
	@$(if $(filter distractors,$*),$(OOD) train_copies --after collect_grid $(OOD_COPIES:%=--output runs/ood/dense_64/%/latest) $(OOD_COPIES:%=configs/ood/%.yaml) -- $(SUBMAKE) --no-print-directory -j2 ood-train SET=dense_64 "OOD_POLICIES=$(OOD_COPIES)")
	@$(OOD) $* --after train_$(SET_$*) $(MORE_$*:%=--after %) --output runs/ood/rollout/$*/episodes.jsonl configs/ood/$*.yaml -- python -m eval.rollout --config_path configs/ood/$*.yaml
	@$(OOD) $*_osc --after train_$(SET_$*) $(MORE_$*:%=--after %) --output runs/ood/rollout/$*_osc/episodes.jsonl configs/ood/$*.yaml -- python -m eval.rollout --config_path configs/ood/$*.yaml --executor osc --n_episodes 40 --output runs/ood/rollout/$*_osc

# The other baselines on one axis, in a report of their own.
ood-heads: ood-left_right  ## every baseline from left to right, beside the axis's own policies
	@$(OOD) train_heads --after train_left $(OOD_HEADS:%=--output runs/ood/left/%/latest) $(OOD_HEADS:%=configs/ood/%.yaml) -- $(SUBMAKE) --no-print-directory -j2 ood-train SET=left "OOD_POLICIES=$(OOD_HEADS)"
	@$(OOD) heads --after train_heads --output runs/ood_heads/rollout/left_right/episodes.jsonl configs/ood/heads.yaml -- python -m eval.rollout --config_path configs/ood/heads.yaml
	@$(RUN) python -m eval.ood runs/ood_heads

# The video model on one axis, by the demo's recipes, which hold 8 of the 128 demonstrations out to validate.
OOD_SVD = $(RUN) python -m eval.step runs/ood_svd
ON_LEFT := --data.root data/grid --data.select left
ood-svd: ood-grid  ## the video model with either head from left to right
	@$(OOD_SVD) video --output runs/ood_svd/video/latest configs/demo/video.yaml data/grid/meta/info.json $(WEIGHTS) -- $(LAUNCH) train_stages/video.py --config_path configs/demo/video.yaml --run runs/ood_svd/video $(ON_LEFT)
	@$(OOD_SVD) joint --after video --output runs/ood_svd/joint_para/latest --output runs/ood_svd/joint_global/latest configs/demo/joint_para.yaml configs/demo/joint_global.yaml -- $(SUBMAKE) --no-print-directory -j2 ood-svd-para ood-svd-global
	@$(OOD_SVD) left_right --after joint --output runs/ood_svd/rollout/left_right/episodes.jsonl configs/ood/svd.yaml -- python -m eval.rollout --config_path configs/ood/svd.yaml
	@$(RUN) python -m eval.ood runs/ood_svd

ood-svd-para ood-svd-global: ood-svd-%:
	@$(RUN) $(LAUNCH) train_stages/joint.py --config_path configs/demo/joint_$*.yaml --run runs/ood_svd/joint_$* --init_from runs/ood_svd/video $(ON_LEFT)

# Few demonstrations after pretraining on circles that stand where the robot was: every cell of both tables.
FEWSHOT = $(RUN) python -m eval.step runs/fewshot
.PHONY: fewshot
fewshot: ood-grid  ## few-shot tuning from scratch and after pretraining on circles: hours on two cores, resumes when run again
	@$(FEWSHOT) collect_circles --output data/circles/meta/info.json configs/fewshot/circles.yaml -- python -m eval.collect --config_path configs/fewshot/circles.yaml
	@$(RUN) python -m eval.fewshot --config_path configs/fewshot/suite.yaml

# The same with circles of an arm that is not tuned on.
FEWSHOT_UR5E = $(RUN) python -m eval.step runs/fewshot_ur5e
.PHONY: fewshot-ur5e
fewshot-ur5e: ood-grid  ## pretrained on another arm's circles, tuned on a few demonstrations: an hour on two cores, resumes
	@$(FEWSHOT_UR5E) collect_circles --output data/circles_ur5e/meta/info.json configs/fewshot/circles_ur5e.yaml -- python -m eval.collect --config_path configs/fewshot/circles_ur5e.yaml
	@$(RUN) python -m eval.fewshot --config_path configs/fewshot/other_arm.yaml

# The ablations of the video backbone, at a scale of configs/ablations/scales: make ablations SCALE=cpu ROWS='[core]'. Two
# processes of one core each share the rows, as any more on other machines would that see the same folder.
SCALE := cpu
ROWS := []
ABLATE = OMP_NUM_THREADS=1 $(RUN) python -m eval.ablations --scale $(SCALE) --rows "$(ROWS)"
.PHONY: ablations ablations-1 ablations-2
ablations: setup  ## the ablations' table on svd-tiny, every row: three to four hours on two cores; ROWS='[core]' for the first four; resumes
	@$(SUBMAKE) --no-print-directory -k -j2 ablations-1 ablations-2
	@$(ABLATE) --report_only true
ablations-1 ablations-2:
	@$(ABLATE) --n_cores 1

# The arm, simulated: calibrated, shown a task, trained, deployed, through its serial port and its camera. The camera is
# then moved and calibrated again, five more demonstrations are recorded before it, and the room is changed.
ROBOT = $(RUN) python -m eval.step runs/demo_robot
ROBOT_POLICIES := para regression
ROBOT_DEMO := configs/robot/demo.yaml
ROBOT_MOVED := configs/robot/moved.yaml
.PHONY: demo-robot robot-train $(ROBOT_POLICIES:%=robot-train-%) robot-trials $(ROBOT_POLICIES:%=robot-trials-%) robot-trials-oracle
demo-robot: setup  ## the SO-100's twin: calibrate, record, train both heads, deploy before another camera and in another room; resumes
	@$(ROBOT) joints --output runs/demo_robot/calibration.json $(ROBOT_DEMO) -- python -m robot.calibrate joints --robot $(ROBOT_DEMO)
	@$(ROBOT) table --after joints $(ROBOT_DEMO) -- python -m robot.calibrate table --robot $(ROBOT_DEMO)
	@$(ROBOT) camera --after table $(ROBOT_DEMO) -- python -m robot.calibrate extrinsics --with_intrinsics --robot $(ROBOT_DEMO)
	@$(ROBOT) camera_error --after camera --output runs/demo_robot/calibration_error.json $(ROBOT_DEMO) -- python -m robot.truth $(ROBOT_DEMO) --output runs/demo_robot/calibration_error.json
	@$(ROBOT) record --after camera --output data/demo_robot/meta/info.json $(ROBOT_DEMO) -- python -m robot.show --robot $(ROBOT_DEMO) --output data/demo_robot --n_episodes 20
	@$(ROBOT) train --after record $(ROBOT_POLICIES:%=--output runs/demo_robot/%/latest) $(ROBOT_POLICIES:%=configs/robot/%.yaml) -- $(SUBMAKE) --no-print-directory -j2 robot-train
	@$(ROBOT) move --after camera --output runs/demo_robot/calibration_moved.json $(ROBOT_MOVED) -- cp runs/demo_robot/calibration.json runs/demo_robot/calibration_moved.json
	@$(ROBOT) camera_moved --after move --output runs/demo_robot/calibration_moved_markers.npz $(ROBOT_MOVED) -- python -m robot.calibrate extrinsics --robot $(ROBOT_MOVED)
	@$(ROBOT) camera_moved_error --after camera_moved --output runs/demo_robot/calibration_moved_error.json $(ROBOT_MOVED) -- python -m robot.truth $(ROBOT_MOVED) --output runs/demo_robot/calibration_moved_error.json
	@$(ROBOT) copy --after record --output data/demo_robot_25/meta/info.json -- cp -rT data/demo_robot data/demo_robot_25
	@$(ROBOT) record_more --after copy --after camera_moved $(ROBOT_MOVED) -- python -m robot.show --robot $(ROBOT_MOVED) --output data/demo_robot_25 --n_episodes 25
	@$(ROBOT) train_more --after record_more $(ROBOT_POLICIES:%=--output runs/demo_robot/%_25/latest) $(ROBOT_POLICIES:%=configs/robot/%.yaml) -- $(SUBMAKE) --no-print-directory -j2 robot-train MORE=_25
	@$(ROBOT) trials --after train --after train_more $(ROBOT_DEMO) $(ROBOT_MOVED) -- $(SUBMAKE) --no-print-directory -j2 robot-trials
	@$(RUN) python -m robot.summary runs/demo_robot

robot-train: $(ROBOT_POLICIES:%=robot-train-%)
$(ROBOT_POLICIES:%=robot-train-%): robot-train-%:
	@$(RUN) $(LAUNCH) train_stages/light.py --config_path configs/robot/$*.yaml --run runs/demo_robot/$*$(MORE) --data.root data/demo_robot$(MORE)

N_TRIALS := 40
TRIALS = OMP_NUM_THREADS=1 $(RUN) python -m robot.trials --eeprom runs/demo_robot/twin/eeprom --n $(N_TRIALS) --output runs/demo_robot/trials
robot-trials: $(ROBOT_POLICIES:%=robot-trials-%) robot-trials-oracle
robot-trials-oracle:
	@$(TRIALS) --robot $(ROBOT_DEMO) --policy oracle --condition in_distribution
$(ROBOT_POLICIES:%=robot-trials-%): robot-trials-%:
	@$(TRIALS) --robot $(ROBOT_DEMO) --policy $*=runs/demo_robot/$* --condition in_distribution
	@$(TRIALS) --robot $(ROBOT_MOVED) --policy $*=runs/demo_robot/$* --condition new_viewpoint
	@$(TRIALS) --robot $(ROBOT_MOVED) --policy $*=runs/demo_robot/$*_25 --condition new_viewpoint_5_demos
	@$(TRIALS) --robot $(ROBOT_DEMO) --policy $*=runs/demo_robot/$* --condition new_environment

ood-train: $(OOD_POLICIES:%=ood-train-%)
$(sort $(OOD_POLICIES:%=ood-train-%) $(OOD_FEWER:%=ood-train-%) $(OOD_COPIES:%=ood-train-%) $(OOD_HEADS:%=ood-train-%)): ood-train-%:
	@$(RUN) $(LAUNCH) train_stages/light.py --config_path configs/ood/$(firstword $(subst -, ,$*)).yaml $(addprefix --data.n_train_episodes ,$(word 2,$(subst -, ,$*))) --run runs/ood/$(SET)/$* --data.select $(SET) --data.root data/$(if $(filter hemisphere,$(SET)),views,grid)

# Files in the order of tests/conftest.py: by number of tests, as xdist would have them, the longest tests come last.
test: setup .venv/extras  ## lint, types and all tests
	@$(SUBMAKE) --no-print-directory -j2 lint tests
	OMP_NUM_THREADS=1 $(RUN) python -m pytest -m timing $$(grep -l '^@pytest.mark.timing' tests/test_*.py)

.PHONY: tests
tests:
	OMP_NUM_THREADS=1 $(RUN) python -m pytest -m "not timing" --numprocesses 2 --dist loadfile --no-loadscope-reorder

faults: setup  ## inject faults into training, collection, evaluation and every loader; print what was survived and what was lost; nine minutes
	@OMP_NUM_THREADS=1 PYTHONPATH=tests:. $(RUN) python -m faults

lint: setup  ## ruff, mypy, and whether every number that the documents quote was measured
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) python -m eval.claims --check

bench: setup  ## what exact losses and rendering only when re-planning save, against the naive forms; fails where the heads miss a goal; five minutes
	OMP_NUM_THREADS=1 $(RUN) python -m bench.cache --json runs/bench/cache.json
	OMP_NUM_THREADS=1 $(RUN) python -m bench.rollout --json runs/bench/rollout.json
	OMP_NUM_THREADS=1 $(RUN) python -m bench.heads --json runs/bench/heads.json --check

report: setup  ## one site of all runs that are there, every episode to click at: runs/site/index.html; opens without a network
	@$(RUN) python -m eval.site

smoke: setup  ## the whole demo in miniature, about two minutes; the numbers mean nothing
	$(RUN) python -m pytest tests/test_flow.py

clean:  ## remove what the demo made
	rm -rf runs/demo runs/demo_random runs/demo_copying data/left_half
