"""What the process that is forked loads. No fork need look through it for garbage: that would take each 0.6 s."""

import gc

from pipeline.importing import importing

with importing():
    import librosa.core.audio  # noqa: F401

    import pipeline.model.speech_to_video
    import pipeline.web.site  # noqa: F401

gc.freeze()
