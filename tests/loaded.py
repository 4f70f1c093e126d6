"""What the process that is forked loads."""

from pipeline.importing import importing

with importing():
    import librosa.core.audio  # noqa: F401

    import pipeline.model.speech_to_video
    import pipeline.web.site  # noqa: F401
